//! Dates as HTTP writes them (RFC 7231, section 7.1.1.1), of which `retry-after` may be one.

use crate::clock;

/// Unix seconds of a date in any of the three forms that a recipient must understand.
pub(super) fn parse(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.trim().split([' ', ',']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        // Sun, 06 Nov 1994 08:49:37 GMT, and Sun Nov  6 08:49:37 1994
        [_, day, month, year, time, "GMT"] | [_, month, day, time, year] => {
            seconds(number(year)?, month, day, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        [_, date, time, "GMT"] => {
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, number(parts.next()?)?);
            // No server that is still there writes of the last century in this form.
            seconds(2000 + year, month, day, time)
        }
        _ => None,
    }
}

/// Unix seconds of a date as RFC 3339 writes it: `2026-11-25T12:00:42Z`, `2026-11-25T14:00:42.5+02:00`.
pub(super) fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.trim().split_once(['T', 't', ' '])?;
    let (time, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-'])?);
    let mut parts = date.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let days = days_since_epoch(year, month, day)?;
    let mut clock = time.split_once('.').map_or(time, |(whole, _)| whole).split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let here = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let ahead = zone.get(1..).filter(|offset| !offset.is_empty()).map(|offset| {
        let (hours, minutes) = offset.split_once(':')?;
        Some((number(hours)? * 60 + number(minutes)?) * 60)
    });
    match (zone.get(..1)?, ahead) {
        ("Z" | "z", None) => Some(here),
        ("+", Some(Some(ahead))) => here.checked_sub(ahead),
        ("-", Some(Some(behind))) => here.checked_add(behind),
        _ => None,
    }
}

fn seconds(year: u64, month: &str, day: &str, time: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().zip(1..).find_map(|(name, at)| (*name == month).then_some(at))?;
    let mut clock = time.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Sixty is a leap second.
    let sane = hour < 24 && minute < 60 && second <= 60 && clock.next().is_none();
    let days = days_since_epoch(year, month, number(day)?)?;
    sane.then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(text: &str) -> Option<u64> {
    // `parse` would take a sign, too.
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Days from 1970-01-01, where there is such a date.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let signed = |number: u64| i64::try_from(number).ok();
    u64::try_from(clock::days(signed(year)?, signed(month)?, signed(day)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_date_is_understood() {
        for text in
            ["Sun, 06 Nov 2094 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 2094"]
        {
            assert_eq!(parse(text), Some(3_939_871_777), "{text}");
        }
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse("Thu, 29 Feb 2024 23:59:60 GMT"), Some(1_709_251_200));
    }

    #[test]
    fn so_are_those_of_apis() {
        for text in ["2026-11-25T12:00:42Z", "2026-11-25t12:00:42.500z", "2026-11-25T14:00:42+02:00"] {
            assert_eq!(parse_rfc3339(text), Some(1_795_608_042), "{text}");
        }
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00-01:00"), Some(3600));
        for text in ["", "2026-11-25", "2026-13-25T12:00:42Z", "2026-11-25T12:00Z", "2026-11-25T12:00:42+2"] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "120",
            "-1",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Mon, 01 Jan 0000 00:00:00 GMT",
            "Sunday, 06-Nov 08:49:37 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
