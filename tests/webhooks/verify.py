"""Verifies a delivery with the official library of Standard Webhooks.

Reads {"secret", "headers", "body"} as JSON and prints what the library takes the body for.
"""

import json
import sys

from standardwebhooks import Webhook

delivery = json.load(sys.stdin)
print(json.dumps(Webhook(delivery["secret"]).verify(delivery["body"], delivery["headers"])))
