"""Receives webhooks and prints the end of every job, once.

    receiver.py PORT

What the webhooks are signed with comes from WEBHOOK_SECRET. With PORT 0 it takes any free one and says which.
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
known = set()


class Ends(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            event = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            return self.answer(401)
        # Here a real receiver writes the event to where it keeps its work, and works after it has answered.
        if self.headers["webhook-id"] not in known:
            known.add(self.headers["webhook-id"])
            print(event["data"]["job_id"], event["data"]["status"], flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Ends)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
