//! docs/COST.md, whose tables stand between `<!-- name -->` and `<!-- end of name -->`.

use crate::{
    idle::Waiting,
    inputs::{Inputs, Job},
    job::{self, Step},
    others::{self, Other},
    spent::{Bill, Spent},
    standing,
};

const MILLION: f64 = 1e6;
const GB: f64 = 1e9;

/// The document with every table computed anew.
pub(crate) async fn computed(inputs: &Inputs, document: &str) -> String {
    let mut lives = Vec::new();
    for kind in &inputs.workload.jobs {
        lives.push((kind, job::steps(inputs, kind).await));
    }
    let (middle, steps) = &lives[lives.len() / 2];
    let tables = [
        ("a life", life(steps)),
        ("a million jobs", million(inputs, &lives)),
        ("transfer", transfer(inputs, &lives)),
        ("idle workers", idle(inputs).await),
        ("a quiet month", quiet(inputs).await),
        ("coordination", comparison(inputs, &lives, middle)),
        ("compute", others_table(&others::compute(inputs, middle), "for a million jobs")),
        ("idle elsewhere", others_table(&others::idle(inputs), "for a worker and month")),
        ("prices", prices(inputs)),
    ];
    let mut document = document.to_owned();
    for (name, table) in tables {
        document = replaced(&document, name, &table);
    }
    document
}

/// The document with what stands between a name's marks.
fn replaced(document: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let missing = || panic!("docs/COST.md has no {begin}");
    let (before, rest) = document.split_once(&begin).unwrap_or_else(missing);
    let (_, after) = rest.split_once(&end).unwrap_or_else(missing);
    format!("{before}{begin}{table}{end}{after}")
}

fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let mut line = "|".to_owned();
    for cell in cells {
        line = format!("{line} {} |", cell.as_ref());
    }
    line + "\n"
}

fn header<T: AsRef<str>>(cells: &[T]) -> String {
    row(cells) + "|" + &"---|".repeat(cells.len()) + "\n"
}

/// US dollars with as many digits as tell something.
pub(crate) fn usd(amount: f64) -> String {
    match amount {
        0.0 => "0".to_owned(),
        amount if amount < 0.1 => format!("${amount:.4}"),
        amount if amount < 1000.0 => format!("${amount:.2}"),
        amount => format!("${}", grouped(amount)),
    }
}

/// A whole number with commas between its thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

/// A count without needless digits.
pub(crate) fn count(number: f64) -> String {
    // A sum of nothing is -0.
    if number >= 1000.0 { grouped(number) } else { format!("{}", (number * 100.0).round() / 100.0 + 0.0) }
}

fn counts(what: &str, times: &str, spent: &Spent) -> String {
    let cells = [
        spent.api_calls,
        spent.all_invocations(),
        spent.write_units,
        spent.read_units,
        spent.s3_puts,
        spent.s3_gets,
        spent.sqs_requests,
        spent.gb_seconds * 1000.0,
    ];
    let mut texts = vec![what.to_owned(), times.to_owned()];
    texts.extend(cells.map(count));
    row(texts)
}

const COUNTED: [&str; 8] =
    ["API calls", "invocations", "write units", "read units", "S3 PUT", "S3 GET", "SQS", "GB-ms of Lambda"];

fn life(steps: &[Step]) -> String {
    let mut table = header(&[&["step", "times"][..], &COUNTED].concat());
    for step in steps {
        table += &counts(step.what, &step.times.to_string(), &step.spent);
    }
    table + &counts("**together**", "", &job::whole(steps))
}

/// What a job of a kind costs, a million times: what is coordinated, and what its files cost.
fn bills(inputs: &Inputs, kind: &Job, steps: &[Step]) -> (Bill, Bill) {
    let (prices, workload) = (&inputs.prices, &inputs.workload);
    let whole = job::whole(steps);
    // Sampling depends on how many jobs there are in a month.
    let mut control = whole.times(workload.jobs_per_month).bill(inputs);
    control.0.iter_mut().for_each(|(_, usd)| *usd *= MILLION / workload.jobs_per_month);
    control.0.retain(|(what, _)| *what != "EventBridge Scheduler");
    let row_gb_months = workload.row_bytes * MILLION / GB * inputs.stack.row_months();
    let kept = prices.dynamodb_storage.of(row_gb_months) + prices.dynamodb_recovery.of(row_gb_months);
    control.0.push(("DynamoDB, storage and recovery", kept));
    let object_gb = (kind.source_bytes + kind.result_bytes as f64) * MILLION / GB;
    let files = Bill(vec![
        (
            "S3, storage of sources and results",
            prices.s3_storage.of(object_gb * inputs.stack.object_months()),
        ),
        ("Sources out of AWS to the worker", prices.data_out.of(whole.file_bytes * MILLION / GB)),
    ]);
    (control, files)
}

fn million(inputs: &Inputs, lives: &[(&Job, Vec<Step>)]) -> String {
    let bills: Vec<(Bill, Bill)> = lives.iter().map(|(kind, steps)| bills(inputs, kind, steps)).collect();
    let mut heads = vec!["for a million jobs".to_owned()];
    heads.extend(lives.iter().map(|(kind, _)| {
        format!("{}, {} MB, {} s", kind.name, count(kind.source_bytes / MILLION), kind.run_seconds)
    }));
    let mut table = header(&heads);
    let line = |what: &str, of: &dyn Fn(&(Bill, Bill)) -> f64| {
        let mut cells = vec![what.to_owned()];
        cells.extend(bills.iter().map(|bills| usd(of(bills))));
        row(cells)
    };
    for (at, (what, _)) in bills[0].0.0.iter().enumerate() {
        table += &line(what, &|bills| bills.0.0[at].1);
    }
    table += &line("**the control plane together**", &|bills| bills.0.total());
    for (at, (what, _)) in bills[0].1.0.iter().enumerate() {
        table += &line(what, &|bills| bills.1.0[at].1);
    }
    table += &line("**all together**", &|bills| bills.0.total() + bills.1.total());
    let rest = |spent: &Spent| {
        let calls = spent.api_calls * MILLION;
        inputs.prices.api_gateway_rest.of(calls) - inputs.prices.api_gateway_http.of(calls)
    };
    let mut cells = vec!["more with a REST API".to_owned()];
    cells.extend(lives.iter().map(|(_, steps)| usd(rest(&job::whole(steps)))));
    table + &row(cells)
}

/// What the sources of a million jobs cost on their way to the worker, and which part of everything that is.
fn transfer(inputs: &Inputs, lives: &[(&Job, Vec<Step>)]) -> String {
    let mut table = header(&["for a million jobs", "the arithmetic", "transfer", "of all together"]);
    for (kind, steps) in lives {
        let (control, files) = bills(inputs, kind, steps);
        let gigabytes = job::whole(steps).file_bytes * MILLION / GB;
        let transfer = inputs.prices.data_out.of(gigabytes);
        table += &row([
            kind.name.clone(),
            format!("{} GB x {}", count(gigabytes), usd(inputs.prices.data_out.of(1.0))),
            usd(transfer),
            format!("{:.0} %", 100.0 * transfer / (control.total() + files.total())),
        ]);
    }
    table
}

/// What an idle worker costs in a month.
pub(crate) async fn idle_usd(inputs: &Inputs, waiting: Waiting) -> f64 {
    crate::idle::month(inputs, waiting).await.0.bill(inputs).total()
}

async fn idle(inputs: &Inputs) -> String {
    let heads = [
        "a worker waits by",
        "a job waits at most, s",
        "API calls an hour",
        "read units an hour",
        "write units an hour",
        "SQS requests an hour",
        "GB-seconds an hour",
        "of a month: API and Lambda",
        "DynamoDB",
        "SQS",
        "logs, traces, answers",
        "**together**",
    ];
    let mut table = header(&heads);
    for waiting in Waiting::ALL {
        let (month, pause) = crate::idle::month(inputs, waiting).await;
        let hour = month.times(1.0 / inputs.workload.hours_per_month);
        let bill = month.bill(inputs);
        let of = |prefixes: &[&str]| -> f64 {
            let chosen =
                bill.0.iter().filter(|(what, _)| prefixes.iter().any(|prefix| what.starts_with(prefix)));
            chosen.map(|(_, usd)| usd).sum()
        };
        let waits = match waiting {
            Waiting::Polling | Waiting::Adaptive => pause.to_string(),
            Waiting::Hinted | Waiting::Held => "a moment".to_owned(),
        };
        table += &row([
            waiting.what().to_owned(),
            waits,
            count(hour.api_calls),
            count(hour.read_units),
            count(hour.write_units),
            count(hour.sqs_requests),
            count(hour.gb_seconds),
            usd(of(&["API", "Lambda"])),
            usd(of(&["DynamoDB"])),
            usd(of(&["SQS"])),
            usd(of(&["CloudWatch", "X-Ray", "Answers"])),
            format!("**{}**", usd(bill.total())),
        ]);
    }
    table
}

async fn quiet(inputs: &Inputs) -> String {
    let (spent, bill) = standing::month(inputs).await;
    let mut table = header(&["what", "a month"]);
    for (what, amount) in bill.0.iter().filter(|(_, amount)| *amount > 0.0) {
        table += &row([*what, &usd(*amount)]);
    }
    table += &row(["**together**".to_owned(), format!("**{}**", usd(bill.total()))]);
    table
        + &format!(
            "\nThat is {} invocations, {} read and {} write units.\n",
            count(spent.all_invocations()),
            count(spent.read_units),
            count(spent.write_units)
        )
}

fn comparison(inputs: &Inputs, lives: &[(&Job, Vec<Step>)], middle: &Job) -> String {
    let (_, steps) = &lives[lives.len() / 2];
    let (control, _) = bills(inputs, middle, steps);
    let whole = job::whole(steps);
    let ours = Other {
        name: "this system",
        usd: Some(control.total()),
        arithmetic: format!(
            "the control plane's column above: {} API calls, {} write and {} read units a job, and the rest of it; {} \
             without X-Ray",
            count(whole.api_calls),
            count(whole.write_units),
            count(whole.read_units),
            usd(control.total() - control.of("X-Ray"))
        ),
    };
    let mut all = vec![ours];
    all.extend(others::coordination(inputs, middle));
    others_table(&all, "for a million jobs")
}

fn others_table(others: &[Other], what: &str) -> String {
    let mut table = header(&["", what, "the arithmetic"]);
    for other in others {
        let amount = other.usd.map_or_else(|| "cannot".to_owned(), usd);
        table += &row([other.name, &amount, &other.arithmetic]);
    }
    table
}

fn prices(inputs: &Inputs) -> String {
    let mut table = header(&["one", "US dollars", "published at", "as of", "read"]);
    for price in inputs.prices.all() {
        let amount = if price.per == 1.0 {
            format!("{}", price.usd)
        } else {
            format!("{} for {}", price.usd, grouped(price.per))
        };
        let read = match (&price.quoted_by, price.unread) {
            (_, true) => "not verified".to_owned(),
            (Some(page), _) => format!("as quoted by <{page}>"),
            (None, _) => "there".to_owned(),
        };
        table += &row([price.what.clone(), amount, format!("<{}>", price.source), price.as_of.clone(), read]);
    }
    table
}
