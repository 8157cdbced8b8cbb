"""Plays the original system's clients, unchanged, against a server and prints what it was answered as JSON.

    client.py URL [FILE]

Takes one job as the original's remote converter does and completes it. With FILE, first creates two jobs of it as
the original's ingestion service does, completes one and fails the other. The key comes from MORAG_API_KEY; without
one no Authorization header is sent.
"""

import json
import os
import re
import sys

import requests

TIMEOUT = 30


def shown(response):
    return {"status": response.status_code, "body": response.json()}


class Client:
    def __init__(self, base_url):
        self.base_url = base_url
        key = os.environ.get("MORAG_API_KEY")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def create(self, path):
        job = {
            "source_file_path": path,
            "content_type": "audio",
            "task_options": {"webhook_url": "https://ingestion.example/hook", "language": None},
            "ingestion_task_id": "ingestion-task-1",
        }
        url = f"{self.base_url}/api/v1/remote-jobs/"
        return requests.post(url, json=job, headers=self.headers, timeout=TIMEOUT)

    def poll(self):
        params = {"worker_id": "remote-worker-1", "content_types": "audio,video", "max_jobs": 1}
        url = f"{self.base_url}/api/v1/remote-jobs/poll"
        return requests.get(url, params=params, headers=self.headers, timeout=TIMEOUT)

    def download(self, source_file_url):
        response = requests.get(
            f"{self.base_url}{source_file_url}", headers=self.headers, stream=True, timeout=300
        )
        disposition = response.headers.get("content-disposition", "")
        name = re.search(r'filename="?([^"]+)"?', disposition)
        content = b"".join(response.iter_content(chunk_size=8192))
        return {
            "status": response.status_code,
            "redirects": [answer.status_code for answer in response.history],
            "sent_authorization": "Authorization" in response.request.headers,
            "url": response.url,
            "filename": name.group(1) if name else None,
            "content": content.decode(),
        }

    def status(self, job_id):
        url = f"{self.base_url}/api/v1/remote-jobs/{job_id}/status"
        return requests.get(url, headers=self.headers, timeout=TIMEOUT)

    def put(self, job_id, verb, body):
        headers = {"Content-Type": "application/json", **self.headers}
        url = f"{self.base_url}/api/v1/remote-jobs/{job_id}/{verb}"
        return requests.put(url, json=body, headers=headers, timeout=TIMEOUT)


def convert(client, said):
    """Takes one job and completes it."""
    polled = client.poll()
    said["poll"] = shown(polled)
    job = polled.json()
    if polled.status_code != 200 or not job.get("job_id"):
        return
    said["download"] = client.download(job["source_file_url"])
    progress = {"percentage": 52, "message": "Audio processing: Initializing", "timestamp": "2025-06-11T11:26:50.780725Z"}
    said["progress"] = shown(client.put(job["job_id"], "progress", progress))
    said["status while it runs"] = shown(client.status(job["job_id"]))
    result = {"success": True, "content": "# Talk", "metadata": {"duration": 5.0}, "processing_time": 1.25}
    said["result"] = shown(client.put(job["job_id"], "result", result))
    said["status at the end"] = shown(client.status(job["job_id"]))


def fail(client, said):
    """Takes one job and fails it."""
    job_id = client.poll().json()["job_id"]
    failure = {"success": False, "error_message": "Processing failed", "processing_time": 0.5}
    said["failed result"] = shown(client.put(job_id, "result", failure))
    said["status after the failure"] = shown(client.status(job_id))
    said["poll without a job"] = shown(client.poll())


def main():
    client = Client(sys.argv[1])
    said = {}
    if len(sys.argv) > 2:
        for _ in range(2):
            said["create"] = shown(client.create(sys.argv[2]))
        convert(client, said)
        fail(client, said)
    else:
        convert(client, said)
    json.dump(said, sys.stdout)


main()
