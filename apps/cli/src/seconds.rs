/// A length of time as people write it: `90`, `90s`, `15m`, `2h`, `1d`. The unit is seconds unless one is named.
///
/// # Errors
/// What would be understood instead.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.get(number.len()..).unwrap_or_default()),
        None => (text, "s"),
    };
    let factor = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 1,
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    seconds
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "use a number of seconds, or one like 90s, 15m or 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_seconds() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(parse(text), Ok(seconds));
        }
        for bad in ["", "s", "0", "-1", "1.5h", "2w", "1 h", "99999999999999999999", "9999999999999999d"] {
            assert!(parse(bad).unwrap_err().contains("15m"), "{bad}");
        }
    }
}
