//! What DynamoDB and S3 answer when they cannot do now what they are asked.

/// An answer that says "not now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) body: &'static str,
}

const fn refusal(status: u16, body: &'static str) -> Refusal {
    Refusal { status, body }
}

/// To any call of DynamoDB. The codes and statuses are those of
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>.
const OF_DYNAMODB: [Refusal; 5] = [
    refusal(
        400,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slower"}"#,
    ),
    refusal(400, r#"{"__type":"com.amazon.coral.availability#ThrottlingException","message":"slower"}"#),
    refusal(400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#RequestLimitExceeded","message":"slower"}"#),
    refusal(
        500,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"it failed"}"#,
    ),
    refusal(503, ""),
];

/// To a write of one row, while a transaction writes it as well.
const OF_WRITES: [Refusal; 2] = [
    refusal(
        400,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"busy"}"#,
    ),
    refusal(
        400,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#ReplicatedWriteConflictException","message":"busy"}"#,
    ),
];

/// To a transaction of two writes.
const OF_TRANSACTIONS: [Refusal; 5] = [
    refusal(
        400,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"cancelled","CancellationReasons":[{"Code":"ThrottlingError","Message":"slower"},{"Code":"None"}]}"#,
    ),
    refusal(
        400,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"cancelled","CancellationReasons":[{"Code":"None"},{"Code":"ProvisionedThroughputExceeded","Message":"slower"}]}"#,
    ),
    refusal(
        400,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"cancelled","CancellationReasons":[{"Code":"TransactionConflict","Message":"busy"},{"Code":"None"}]}"#,
    ),
    refusal(
        400,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"cancelled","CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict","Message":"busy"}]}"#,
    ),
    refusal(
        400,
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionInProgressException","Message":"busy"}"#,
    ),
];

/// To any request to S3. A HEAD is answered without a body.
const OF_S3: [Refusal; 3] = [
    refusal(503, "<Error><Code>SlowDown</Code><Message>slower</Message></Error>"),
    refusal(500, "<Error><Code>InternalError</Code><Message>it failed</Message></Error>"),
    refusal(503, ""),
];

/// To a conditional write of an object that somebody else is just writing.
const OF_S3_WRITES: [Refusal; 2] = [
    refusal(409, "<Error><Code>ConditionalRequestConflict</Code><Message>busy</Message></Error>"),
    refusal(409, "<Error><Code>OperationAborted</Code><Message>busy</Message></Error>"),
];

impl Refusal {
    /// Everything that a call may be refused with.
    pub(crate) fn all_of(operation: &str) -> Vec<Self> {
        let (general, special) = match operation {
            "TransactWriteItems" => (&OF_DYNAMODB[..], &OF_TRANSACTIONS[..]),
            "PutItem" | "UpdateItem" | "DeleteItem" => (&OF_DYNAMODB[..], &OF_WRITES[..]),
            "PUT object" => (&OF_S3[..], &OF_S3_WRITES[..]),
            operation if operation.ends_with(" object") => (&OF_S3[..], &[][..]),
            _ => (&OF_DYNAMODB[..], &[][..]),
        };
        [general, special].concat()
    }

    /// One of them, another one for each place of a call among others.
    pub(crate) fn of(operation: &str, at: usize) -> Self {
        let all = Self::all_of(operation);
        all[at % all.len()]
    }
}
