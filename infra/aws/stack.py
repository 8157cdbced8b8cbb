"""What is asked of a deployed stack and done to it, besides what the AWS SAM CLI does. Every command takes the stack's name:

outputs NAME [OUTPUT...]  prints these outputs in one line, or all as JSON
whereabouts NAME          prints the region and the account; refused while the stack's table is protected
empty NAME                deletes every object in the stack's bucket
delete-queues NAME        deletes the hint queues, which the stack's functions made
"""

import json
import os
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def outputs_of(name: str) -> dict[str, str]:
    """The stack's outputs. `ApiUrl` is the stack's own on AWS; at a server that AWS_ENDPOINT_URL names, whose domain no
    DNS knows, it is the path that ministack and LocalStack share."""
    stack = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "ApiUrl" in outputs:
        stage = "/live" if outputs["ApiUrl"].endswith("/live") else ""
        outputs["ApiUrl"] = f"{endpoint.rstrip('/')}/_aws/execute-api/{outputs['ApiId']}{stage}"
    return outputs


def output(outputs: dict[str, str], name: str) -> str:
    return outputs.get(name) or sys.exit(f"The stack has no output {name}. Was it deployed to its end?")


def print_outputs(name: str, *wanted: str) -> None:
    outputs = outputs_of(name)
    print(" ".join(output(outputs, each) for each in wanted) if wanted else json.dumps(outputs))


def print_whereabouts(name: str) -> None:
    table = outputs_of(name).get("TableName")
    dynamodb = boto3.client("dynamodb")
    # A stack whose creation failed has no outputs, and can be deleted.
    if table and dynamodb.describe_table(TableName=table)["Table"].get("DeletionProtectionEnabled"):
        sys.exit(f"{name} is protected. Deploy it with DeletionProtection=false first.")
    print(dynamodb.meta.region_name, boto3.client("sts").get_caller_identity()["Account"])


def empty(name: str) -> None:
    if bucket := outputs_of(name).get("BucketName"):
        boto3.resource("s3").Bucket(bucket).objects.all().delete()


def delete_queues(name: str) -> None:
    for queue in boto3.resource("sqs").queues.filter(QueueNamePrefix=f"{name}-hints-"):
        queue.delete()


COMMANDS = {
    "outputs": print_outputs,
    "whereabouts": print_whereabouts,
    "empty": empty,
    "delete-queues": delete_queues,
}

if __name__ == "__main__":
    command, stack_name, *others = sys.argv[1:]
    try:
        COMMANDS[command](stack_name, *others)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"{stack_name}: {error}")
