//! Moments in RFC 3339, which is how `createTime` is written.

const DAY: u64 = 86_400;
/// The days of four hundred years: after these the calendar repeats itself.
const ERA: u64 = 146_097;
/// The days from the first of March of the year 0, where an era begins, to the first of January 1970.
const EPOCH: u64 = 719_468;

/// The moment in Unix seconds; fractions are cut off. `None` where it is none, or is before 1970, or not in UTC.
pub(super) fn read(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split('.').next()?;
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(time, ':')?;
    let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years begin in March, so that the leap day is the last of them.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + of_year;
    let days = (year / 400 * ERA + of_era).checked_sub(EPOCH)?;
    Some(days * DAY + hour * 3_600 + minute * 60 + second)
}

fn three(text: &str, between: char) -> Option<[u64; 3]> {
    let mut numbers = text.split(between).map(|number| number.parse().ok());
    let three = [numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(three)
}

/// Undoes [`read`].
pub(super) fn write(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY + EPOCH, seconds % DAY);
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + later;
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
