"""Lets the functions of the stack STACK_NAME send SQS messages in batches, on ministack, wherever they may send one. On AWS
the right to sqs:SendMessage is that to SendMessageBatch; ministack takes the batch for an action of its own, which a
template for AWS cannot name."""

import json
import os

import boto3

iam = boto3.client("iam")
pages = boto3.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=os.environ["STACK_NAME"])
resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
roles = [each["PhysicalResourceId"] for each in resources if each["ResourceType"] == "AWS::IAM::Role"]
for role in roles:
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    sending = [
        {**statement, "Action": "sqs:SendMessageBatch"}
        for document in documents
        for statement in document["Statement"]
        if "sqs:SendMessage" in statement["Action"]
    ]
    if sending:
        policy = json.dumps({"Version": "2012-10-17", "Statement": sending})
        iam.put_role_policy(RoleName=role, PolicyName="ministack", PolicyDocument=policy)
