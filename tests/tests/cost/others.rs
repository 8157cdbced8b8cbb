//! What others charge for the same million jobs, by their published prices.

use crate::{
    document::{count, usd},
    inputs::{Inputs, Job},
};

const MILLION: f64 = 1e6;
/// How long one request to SQS waits, in seconds, at most.
const SQS_WAIT: f64 = 20.0;
/// How often a worker tells SQS that it is at it: at half of its default visibility timeout of 30 s.
const VISIBILITY_EVERY: u64 = 15;
/// Temporal's SDKs pass a heartbeat on once in 80 % of the heartbeat timeout, here of 60 s as a lease is.
const TEMPORAL_EVERY: u64 = 48;
/// The states of the smallest workflow: its start, its activity, its end.
const TRANSITIONS: f64 = 3.0;
/// What a job takes of Fargate, in vCPU and GB, and of Lambda, in GB.
const FARGATE: (f64, f64) = (4.0, 8.0);
const LAMBDA_GB: f64 = 8.0;
/// Lambda and Batch: no attempt on Lambda is longer, and Fargate bills no less.
const LONGEST_LAMBDA: u64 = 900;
const LEAST_FARGATE: u64 = 60;

/// Somebody else's system.
pub(crate) struct Other {
    pub(crate) name: &'static str,
    /// US dollars for a million jobs; `None` where it cannot run them.
    pub(crate) usd: Option<f64>,
    pub(crate) arithmetic: String,
}

/// What it costs to coordinate a million of these jobs, which one's own machines convert.
pub(crate) fn coordination(inputs: &Inputs, job: &Job) -> Vec<Other> {
    vec![step_functions(inputs), temporal(inputs, job), queue(inputs, job)]
}

/// What it costs to convert a million of these jobs on AWS as well, if they take as long there.
pub(crate) fn compute(inputs: &Inputs, job: &Job) -> Vec<Other> {
    vec![lambda(inputs, job), fargate(inputs, job), gpu(inputs, job)]
}

fn step_functions(inputs: &Inputs) -> Other {
    let price = &inputs.prices.step_functions_transition;
    Other {
        name: "Step Functions, standard workflow with an activity",
        usd: Some(price.of(TRANSITIONS * MILLION)),
        arithmetic: format!(
            "{TRANSITIONS} transitions (start, activity, end) x {} a million; GetActivityTask, heartbeats and results \
             are no transitions",
            usd(price.of(MILLION))
        ),
    }
}

fn temporal(inputs: &Inputs, job: &Job) -> Other {
    let heartbeats = (job.run_seconds / TEMPORAL_EVERY) as f64;
    let actions = 2.0 + heartbeats;
    let price = &inputs.prices.temporal_action;
    let usage = price.of(actions * MILLION);
    Other {
        name: "Temporal Cloud, Developer plan",
        usd: Some(usage + inputs.prices.temporal_plan.of(usage)),
        arithmetic: format!(
            "{actions} Actions (workflow, activity, {heartbeats} heartbeats) x {} a million, and the plan's 10 %; \
             storage of histories comes on top",
            usd(price.of(MILLION))
        ),
    }
}

fn queue(inputs: &Inputs, job: &Job) -> Other {
    let renewals = (job.run_seconds / VISIBILITY_EVERY) as f64;
    let requests = 3.0 + renewals + 3.0;
    Other {
        name: "SQS alone: one queue there, one back",
        usd: Some(inputs.prices.sqs_request.of(requests * MILLION)),
        arithmetic: format!(
            "{requests} requests (send, receive, delete on each queue; {renewals} renewals of visibility) x {} a \
             million; without statuses, progress, cancelling, priorities, retries with backoff, tenants and webhooks",
            usd(inputs.prices.sqs_request.of(MILLION))
        ),
    }
}

fn lambda(inputs: &Inputs, job: &Job) -> Other {
    let seconds = job.run_seconds as f64;
    let (second, request) = (&inputs.prices.lambda_arm64, &inputs.prices.lambda_request);
    // The trigger receives by itself, which is paid for as well: send, receive, delete.
    let each = second.of(LAMBDA_GB * seconds) + request.of(1.0) + inputs.prices.sqs_request.of(3.0);
    Other {
        name: "SQS with Lambda, which converts",
        usd: (job.run_seconds <= LONGEST_LAMBDA).then_some(each * MILLION),
        arithmetic: format!(
            "{seconds} s x {LAMBDA_GB} GB x {} a million GB-seconds, an invocation, 3 requests to SQS; no GPU, at most \
             {LONGEST_LAMBDA} s",
            usd(second.of(MILLION))
        ),
    }
}

fn fargate(inputs: &Inputs, job: &Job) -> Other {
    let seconds = job.run_seconds.max(LEAST_FARGATE) as f64;
    let (vcpu, gb) = FARGATE;
    let each = inputs.prices.fargate_vcpu.of(vcpu * seconds) + inputs.prices.fargate_memory.of(gb * seconds);
    Other {
        name: "AWS Batch on Fargate",
        usd: Some(each * MILLION),
        arithmetic: format!(
            "Batch itself is free; {seconds} s x ({vcpu} vCPU x {} + {gb} GB x {}) an hour; no GPU, billed for \
             {LEAST_FARGATE} s at least, and for pulling the image",
            inputs.prices.fargate_vcpu.usd, inputs.prices.fargate_memory.usd
        ),
    }
}

fn gpu(inputs: &Inputs, job: &Job) -> Other {
    let price = &inputs.prices.g4dn_xlarge;
    Other {
        name: "AWS Batch on a g4dn.xlarge",
        usd: Some(price.of(job.run_seconds as f64 * MILLION)),
        arithmetic: format!(
            "Batch itself is free; {} s x {} an hour, if the instance is never idle and its start costs nothing",
            job.run_seconds, price.usd
        ),
    }
}

/// What an idle worker costs with others, in US dollars a month.
pub(crate) fn idle(inputs: &Inputs) -> Vec<Other> {
    let requests = inputs.workload.hours_per_month * 3600.0 / SQS_WAIT;
    vec![
        Other {
            name: "Step Functions",
            usd: Some(0.0),
            arithmetic: "GetActivityTask waits for 60 s and is no transition".to_owned(),
        },
        Other { name: "Temporal Cloud", usd: Some(0.0), arithmetic: "polling is no Action".to_owned() },
        Other {
            name: "SQS alone",
            usd: Some(inputs.prices.sqs_request.of(requests)),
            arithmetic: format!(
                "a receive of {SQS_WAIT} s after the other: {} x {} a million",
                count(requests),
                usd(inputs.prices.sqs_request.of(MILLION))
            ),
        },
        Other {
            name: "AWS Batch",
            usd: Some(0.0),
            arithmetic: "a container starts for each job, in a minute or so".to_owned(),
        },
    ]
}
