//! The functions' settings, times and dead letters.

use std::{collections::BTreeSet, path::Path};

use api::{Function, ROUTES};
use runtime::EnvVar;
use serde_json::Value;

use crate::yaml::{TEMPLATE, of_type, properties};

/// What the template may set, and so what must be in the code under the same name.
const SET: [EnvVar; 14] = [
    EnvVar::Table,
    EnvVar::Bucket,
    EnvVar::QueueShards,
    EnvVar::RetentionDays,
    EnvVar::PollAgainSeconds,
    EnvVar::HintQueues,
    EnvVar::WebhookNetworks,
    EnvVar::TimeoutAudio,
    EnvVar::TimeoutVideo,
    EnvVar::TimeoutDocument,
    EnvVar::TimeoutImage,
    EnvVar::TimeoutWeb,
    EnvVar::TimeoutYoutube,
    EnvVar::LogLevel,
];

/// The folders' names as the template spells them: `CreateJob` for `create-job`.
fn folders() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn logical(folder: &str) -> String {
    folder.split('-').map(|part| format!("{}{}", part[..1].to_uppercase(), &part[1..])).collect()
}

#[test]
fn every_function_is_deployed_from_where_it_is_packaged() {
    let deployed: BTreeSet<&str> = of_type("AWS::Serverless::Function").map(|(name, _)| name).collect();
    let folders = folders();
    let named: BTreeSet<String> = folders.iter().map(|folder| logical(folder)).collect();
    assert_eq!(deployed, named.iter().map(String::as_str).collect());
    for folder in &folders {
        let function = properties(&logical(folder));
        assert_eq!(function["CodeUri"], format!("../target/functions/{folder}/bootstrap.zip"));
        assert_eq!(function["FunctionName"], format!("${{AWS::StackName}}-{folder}"));
        let logs = properties(function["LoggingConfig"]["LogGroup"].as_str().unwrap());
        assert_eq!(logs["LogGroupName"], format!("/aws/lambda/${{AWS::StackName}}-{folder}"));
        assert_eq!(logs["RetentionInDays"], "LogRetentionDays");
    }
}

#[test]
fn only_the_settings_that_the_code_reads_are_set() {
    let globals = &TEMPLATE["Globals"]["Function"]["Environment"]["Variables"];
    let set: BTreeSet<&str> = globals.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(set, SET.iter().map(|variable| variable.name()).collect());
    assert!(of_type("AWS::Serverless::Function").all(|(_, function)| function.get("Environment").is_none()));
}

#[test]
fn what_is_not_chosen_is_as_on_one_machine() {
    let default = |name: &str| TEMPLATE["Parameters"][name]["Default"].as_u64().unwrap();
    let store = runtime::StoreSettings::from_env().unwrap();
    let jobs = runtime::JobSettings::from_env().unwrap();
    assert_eq!(default("QueueShards"), u64::from(store.shards));
    assert_eq!(default("RetentionDays") * 24 * 3600, store.retention.as_secs());
    assert_eq!(default("PollAgainSeconds"), jobs.poll_again.as_secs());
    for (content_type, time) in &jobs.run_timeouts {
        let parameter = format!("Timeout{}", logical(&content_type.to_string()));
        assert_eq!(default(&parameter), time.as_secs(), "{parameter}");
    }
    assert_eq!(TEMPLATE["Parameters"]["WebhookNetworks"]["Default"], "");
}

#[test]
fn a_function_ends_before_whoever_waits_for_it_gives_up() {
    let timeout = |function: &Value| {
        let own = function.get("Timeout").unwrap_or(&TEMPLATE["Globals"]["Function"]["Timeout"]);
        own.as_u64().unwrap()
    };
    for route in ROUTES.iter().filter(|route| route.function != Function::Gateway) {
        let own = timeout(properties(&format!("{:?}", route.function)));
        assert_eq!(own, runtime::CALL.as_secs());
        // A REST API waits for 29 s, an HTTP API for 30 s.
        assert!(own < 29);
    }
    assert_eq!(timeout(properties("SweepJobs")), sweep_jobs::TIMEOUT.as_secs());
    assert!(sweep_jobs::LONGEST_SWEEP < sweep_jobs::TIMEOUT);
    assert_eq!(timeout(properties("DeliverEvents")), deliver_events::TIMEOUT.as_secs());
    assert!(deliver_events::TIMEOUT.as_secs() > deliver_events::LONGEST_ROUND.as_secs() + 16);
    // A round that takes longer than the schedule's minute runs beside the next one all the time.
    assert!(["SweepJobs", "DeliverEvents"].iter().all(|name| timeout(properties(name)) <= 60));
}

#[test]
fn what_nobody_waits_for_has_dead_letters() {
    for name in ["SweepJobs", "DeliverEvents"] {
        assert_eq!(properties(name)["DeadLetterQueue"]["TargetArn"], "DeadLetters.Arn");
        for kind in ["AWS::Scheduler::Schedule", "AWS::Events::Rule"] {
            let targets: Vec<&Value> = of_type(kind)
                .map(|(_, schedule)| schedule.get("Target").unwrap_or(&schedule["Targets"][0]))
                .filter(|target| target["Arn"] == format!("{name}.Arn"))
                .collect();
            assert_eq!(targets.len(), 1, "{kind} of {name}");
            assert_eq!(targets[0]["DeadLetterConfig"]["Arn"], "DeadLetters.Arn");
        }
    }
    assert_eq!(
        properties("DeliverAtOnce")["DestinationConfig"]["OnFailure"]["Destination"],
        "DeadLetters.Arn"
    );
}

#[test]
fn every_name_begins_with_the_stacks() {
    let names = [
        ("AWS::Serverless::Function", "FunctionName"),
        ("AWS::SQS::Queue", "QueueName"),
        ("AWS::Scheduler::Schedule", "Name"),
        ("AWS::Events::Rule", "Name"),
        ("AWS::CloudWatch::Alarm", "AlarmName"),
        ("AWS::CloudWatch::Dashboard", "DashboardName"),
        ("AWS::ApiGatewayV2::Api", "Name"),
        ("AWS::Serverless::Api", "Name"),
    ];
    for (kind, property) in names {
        for (resource, properties) in of_type(kind) {
            let name = properties[property].as_str().unwrap_or_else(|| panic!("{resource} has no name"));
            assert!(name == "AWS::StackName" || name.starts_with("${AWS::StackName}-"), "{resource}: {name}");
        }
    }
    // CloudFormation makes up the names of these, and begins them with the stack's.
    let made_up = [
        ("AWS::DynamoDB::Table", "TableName"),
        ("AWS::S3::Bucket", "BucketName"),
        ("AWS::IAM::Role", "RoleName"),
    ];
    for (kind, property) in made_up {
        assert!(of_type(kind).all(|(_, properties)| properties.get(property).is_none()), "{kind}");
    }
}
