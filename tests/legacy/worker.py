"""Works on a queue as the original's remote converter does, until it is killed: worker.py URL WORKER_ID CONTENT_TYPE

Its conversion copies the source. It prints the id of every job whose result was accepted. The key comes from
MORAG_API_KEY.
"""

import os
import sys
import time

import requests


def main():
    base_url, worker_id, content_type = sys.argv[1:]
    headers = {"Authorization": f"Bearer {os.environ['MORAG_API_KEY']}"}
    jobs = f"{base_url}/api/v1/remote-jobs"
    params = {"worker_id": worker_id, "content_types": content_type, "max_jobs": 1}
    while True:
        response = requests.get(f"{jobs}/poll", params=params, headers=headers, timeout=30)
        job = response.json() if response.status_code == 200 else {}
        if not job.get("job_id"):
            time.sleep(0.05)
            continue
        source = requests.get(f"{base_url}{job['source_file_url']}", headers=headers, stream=True, timeout=300)
        source.raise_for_status()
        # It has its name, and so its type, from there.
        assert "filename=" in source.headers["content-disposition"]
        content = b"".join(source.iter_content(chunk_size=8192)).decode()
        progress = {"percentage": 50, "message": "Halfway", "timestamp": "2025-06-11T11:26:50.780725Z"}
        url = f"{jobs}/{job['job_id']}"
        requests.put(f"{url}/progress", json=progress, headers=headers, timeout=30).raise_for_status()
        result = {"success": True, "content": content, "metadata": {"worker": worker_id}, "processing_time": 0.1}
        submitted = requests.put(f"{url}/result", json=result, headers=headers, timeout=30)
        if submitted.status_code == 200:
            print(job["job_id"], flush=True)


main()
