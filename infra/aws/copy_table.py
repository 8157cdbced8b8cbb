"""Copies the rows of one DynamoDB table into another, all but those of hints. What is there already stays, unless --replace is given. It may be
run again: what was copied before is there already."""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

AT_ONCE = 16


def main() -> None:
    parser = argparse.ArgumentParser(prog="infra/aws/copy-table", description=__doc__)
    parser.add_argument("source", metavar="FROM")
    parser.add_argument("target", metavar="TO")
    parser.add_argument("--replace", action="store_true", help="write over rows that are there already")
    arguments = parser.parse_args()
    if arguments.source == arguments.target:
        parser.error("FROM and TO are the same table")

    retrying = Config(retries={"mode": "adaptive", "max_attempts": 10}, max_pool_connections=AT_ONCE)
    dynamodb = boto3.client("dynamodb", region_name=os.environ.get("AWS_REGION"), config=retrying)
    condition = {} if arguments.replace else {"ConditionExpression": "attribute_not_exists(pk)"}

    def copy(row: dict) -> bool:
        try:
            dynamodb.put_item(TableName=arguments.target, Item=row, **condition)
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    copied = kept = 0
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for page in dynamodb.get_paginator("scan").paginate(TableName=arguments.source, ConsistentRead=True):
            # What says where idle workers wait names queues of the stack that FROM is of.
            rows = [row for row in page["Items"] if not row["pk"]["S"].startswith("hints#")]
            written = sum(threads.map(copy, rows))
            copied += written
            kept += len(rows) - written
    print(f"{copied} rows copied from {arguments.source} to {arguments.target}, {kept} were there already")


if __name__ == "__main__":
    try:
        main()
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"The copy is not complete: {error}")
