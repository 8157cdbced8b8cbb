//! What the stack costs in a month in which nothing happens.

use system_tests::Functions;

use crate::{
    inputs::Inputs,
    spent::{Bill, Spent},
};

/// The functions that EventBridge Scheduler invokes every minute.
const EVERY_MINUTE: [&str; 2] = ["sweep-jobs", "deliver-events"];

/// A month without a job and without a worker.
pub(crate) async fn month(inputs: &Inputs) -> (Spent, Bill) {
    let minutes = inputs.workload.hours_per_month * 60.0;
    assert_eq!(inputs.stack.schedules(), ["rate(1 minute)"; EVERY_MINUTE.len()]);
    let functions = Functions::new().await;
    let (swept, seen, units) = functions.sweep().await;
    assert!(swept.complete);
    let mut minute = Spent::invocation(inputs, EVERY_MINUTE[0], &seen, units);
    let (delivered, seen, units) = functions.deliver(&crate::job::Takes).await;
    assert_eq!(delivered.delivered, 0);
    minute += &Spent::invocation(inputs, EVERY_MINUTE[1], &seen, units);
    minute.schedules = EVERY_MINUTE.len() as f64;
    let spent = minute.times(minutes);
    let mut bill = spent.bill(inputs);
    let prices = &inputs.prices;
    bill.0.push(("Alarms", prices.alarm.of(inputs.stack.count("AWS::CloudWatch::Alarm") as f64)));
    bill.0.push(("Metrics of log lines", prices.metric.of(inputs.stack.metrics() as f64)));
    bill.0.push(("Dashboard", prices.dashboard.of(inputs.stack.count("AWS::CloudWatch::Dashboard") as f64)));
    (spent, bill)
}
