//! What was found, as a person reads it, and as JSON.

use std::fmt::Write;

use super::{ConverterReport, Report, Takes, TypeReport, machine::Machine};

/// The report as JSON, with a line end.
pub(super) fn json(report: &Report) -> String {
    // Nothing in it can fail to become JSON.
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

/// The report as text.
pub(super) fn text(report: &Report, warnings: &[String]) -> String {
    let mut text = format!("remote-converter {}\n\n", report.version);
    machine(&mut text, &report.machine);
    for warning in warnings {
        row(&mut text, "warning", warning);
    }
    for one in &report.content_types {
        content_type(&mut text, one);
    }
    text
}

fn machine(text: &mut String, machine: &Machine) {
    let python = &machine.python;
    let program = python.program.display();
    match (&python.found, &python.problem) {
        (Some(found), _) => row(text, "python", &format!("{program} is {found}")),
        (None, problem) => {
            let problem = problem.as_deref().unwrap_or("it says nothing");
            row(
                text,
                "python",
                &format!("{program} does not run: {problem}. Set `python` to one that does."),
            );
        }
    }
    let none = ["none found; everything runs on the CPU".to_owned()];
    for gpu in if machine.gpus.is_empty() { &none[..] } else { &machine.gpus } {
        row(text, "gpu", gpu);
    }
    let free =
        machine.free_bytes.map_or("free space unknown".to_owned(), |bytes| format!("{} free", size(bytes)));
    row(text, "temp_dir", &format!("{}, {free}", machine.temp_dir.display()));
    match machine.kernel_lacks.as_slice() {
        [] => row(text, "kernel", "contains converters in full"),
        lacks => lacks.iter().for_each(|lack| row(text, "kernel", lack)),
    }
}

fn content_type(text: &mut String, one: &TypeReport) {
    let wanted = if one.configured { "" } else { "  (not in `content_types`)" };
    line(text, &format!("\n{}{wanted}", one.content_type.as_str()));
    if one.converters.is_empty() {
        line(text, "  no converter is known; name one of your own in `converters`");
    }
    for converter in &one.converters {
        converter_lines(text, converter);
    }
}

fn converter_lines(text: &mut String, one: &ConverterReport) {
    let own = one.folder.as_ref().map_or(String::new(), |folder| format!(" in {}", folder.display()));
    match (&one.says, &one.problem) {
        (Some(says), _) => {
            let says = if says.is_empty() { "usable".to_owned() } else { format!("usable: {says}") };
            line(text, &format!("  + {}{own}  {says}", one.name));
            line(text, &format!("      takes {}", takes(&one.takes)));
        }
        (None, problem) => {
            line(text, &format!("  - {}{own}  {}", one.name, problem.as_deref().unwrap_or_default()));
            if let Some(install) = &one.install {
                line(text, &format!("      {install}"));
            }
        }
    }
}

fn takes(takes: &Takes) -> String {
    match takes {
        Takes::Everything => "every source that none above takes".to_owned(),
        Takes::Nothing => "nothing, as those above take all that it would".to_owned(),
        Takes::Extensions(endings) => {
            let name = |ending: &String| {
                if ending.is_empty() { "names without extension" } else { ending }.to_owned()
            };
            endings.iter().map(name).collect::<Vec<_>>().join(", ")
        }
    }
}

fn row(text: &mut String, name: &str, value: &str) {
    line(text, &format!("{name:<10}{value}"));
}

fn line(text: &mut String, line: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{line}");
}

fn size(bytes: u64) -> String {
    let gibibytes = bytes >> 30;
    if gibibytes > 0 { format!("{gibibytes} GiB") } else { format!("{} MiB", bytes >> 20) }
}
