//! Moments in RFC 3339, which is how `createTime` is written.

use crate::clock;

const DAY: u64 = 86_400;

/// The moment in Unix seconds; fractions are cut off. `None` where it is none, or is before 1970, or not in UTC.
pub(super) fn read(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split('.').next()?;
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let signed = |number: u64| i64::try_from(number).ok();
    let days = clock::days(signed(year)?, signed(month)?, signed(day)?)?;
    let days = u64::try_from(days).ok()?;
    Some(days * DAY + hour * 3_600 + minute * 60 + second)
}

fn three(text: &str, between: char) -> Option<[u64; 3]> {
    let mut numbers = text.split(between).map(|number| number.parse().ok());
    let three = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(three)
}

/// Undoes [`read`].
pub(super) fn write(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = clock::date(i64::try_from(days).unwrap_or(i64::MAX));
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_are_read() {
        let known = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2025-11-14T09:30:00Z", 1_763_112_600),
        ];
        for (text, seconds) in known {
            assert_eq!(read(text), Some(seconds));
            assert_eq!(write(seconds), text);
        }
        assert_eq!(read("2025-11-14T09:30:00.123456Z"), Some(1_763_112_600));
        for wrong in
            ["", "2025-11-14", "1969-12-31T00:00:00Z", "2025-13-01T00:00:00Z", "2025-11-14T09:30:00+01:00"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(seconds in 0u64..200_000_000_000) {
            prop_assert_eq!(read(&write(seconds)), Some(seconds));
        }
    }
}
