//! Times of the day, and days, as people name them.

use crate::intent::heard::{Ease, Heard};

const WEEKDAYS: [(&str, &[&str]); 7] = [
    ("Monday", &["monday", "mon", "mondays"]),
    ("Tuesday", &["tuesday", "tue", "tues", "tuesdays"]),
    ("Wednesday", &["wednesday", "wed", "weds", "wednesdays"]),
    ("Thursday", &["thursday", "thu", "thur", "thurs", "thursdays"]),
    ("Friday", &["friday", "fri", "fridays"]),
    ("Saturday", &["saturday", "sat", "saturdays"]),
    ("Sunday", &["sunday", "sun", "sundays"]),
];
const NEAR_DAYS: [(&str, &[&str]); 4] = [
    ("today", &["today"]),
    ("tomorrow", &["tomorrow", "tmrw", "tmr", "tomorow", "tommorow"]),
    ("tonight", &["tonight", "tonite"]),
    ("this weekend", &["weekend"]),
];
const OTHERS: [&str; 18] = [
    "noon",
    "midday",
    "midnight",
    "oclock",
    "morning",
    "afternoon",
    "evening",
    "night",
    "half",
    "quarter",
    "past",
    "next",
    "this",
    "coming",
    "every",
    "after",
    "day",
    "on",
];

pub(super) fn words() -> impl Iterator<Item = String> {
    let days = WEEKDAYS.iter().chain(&NEAR_DAYS).flat_map(|(_, names)| names.iter().copied());
    days.chain(OTHERS).chain(["am", "pm"]).map(str::to_owned)
}

/// The day that is named at this place, and where its name ends.
pub(in crate::intent) fn day(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, String)> {
    let is = |place: usize, words: &[&str]| heard.is_one_of(place, ease, words);
    if is(at, &["day"]) && is(at + 1, &["after"]) && is(at + 2, &["tomorrow"]) {
        return Some((at + 3, "the day after tomorrow".to_owned()));
    }
    let (leader, here) = match () {
        () if is(at, &["next", "coming"]) => ("next ", at + 1),
        () if is(at, &["every", "each"]) => ("every ", at + 1),
        () if is(at, &["this"]) => ("on ", at + 1),
        () if is(at, &["on"]) && is(at + 1, &["next"]) => ("next ", at + 2),
        () if is(at, &["on", "over", "at"]) => ("on ", at + 1),
        () => ("on ", at),
    };
    let here = here + usize::from(leader == "on " && here > at && is(here, &["this", "coming"]));
    let named = |days: &[(&'static str, &[&str])]| {
        heard.meaning(here, ease, |word| {
            days.iter().find(|(_, names)| names.contains(&word)).map(|(name, _)| *name)
        })
    };
    if let Some(day) = named(&WEEKDAYS) {
        return Some((here + 1, format!("{leader}{day}")));
    }
    let day = named(&NEAR_DAYS)?;
    let fits = here == at || (day == "this weekend" && leader != "every ");
    let day = if leader == "next " { "next weekend" } else { day };
    fits.then(|| (here + 1, day.to_owned()))
}

/// The time that is named at this place, and where its name ends: "8 am", "7:30 pm", "noon", "midnight".
pub(in crate::intent) fn time(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, String)> {
    let is = |place: usize, words: &[&str]| heard.is_one_of(place, ease, words);
    if is(at, &["noon", "midday"]) {
        return Some((at + 1, "noon".to_owned()));
    }
    if is(at, &["midnight"]) {
        return Some((at + 1, "midnight".to_owned()));
    }
    // "12 noon"
    if heard.tokens.get(at)?.word == "12" && is(at + 1, &["noon", "midday", "midnight"]) {
        return time(heard, at + 1, ease);
    }
    let (at, minutes) = match () {
        () if is(at, &["half"]) && is(at + 1, &["past"]) => (at + 2, Minutes::Past(30)),
        () if is(at, &["quarter"]) && is(at + 1, &["past", "after"]) => (at + 2, Minutes::Past(15)),
        () if is(at, &["quarter"]) && is(at + 1, &["to", "before"]) => (at + 2, Minutes::To(15)),
        () => (at, Minutes::Past(0)),
    };
    let (mut end, mut hour, mut minute) = hour(heard, at, ease)?;
    match minutes {
        Minutes::Past(more) => minute += more,
        Minutes::To(less) => {
            hour = if hour == 1 { 12 } else { hour.checked_sub(1)? };
            minute = 60 - less;
        }
    }
    end += usize::from(is(end, &["oclock"]));
    let half = half_of_day(heard, end, ease);
    let is_written_out = heard.tokens.get(at)?.word.contains(':');
    let (end, half) = match half {
        Some((end, half)) if (1..=12).contains(&hour) => (end, half),
        // "19:30" says it all.
        None if is_written_out && (hour > 12 || hour == 0) => {
            (end, if hour == 0 { Half::Am } else { Half::Pm })
        }
        _ => return None,
    };
    let hour = if hour % 12 == 0 { 12 } else { hour % 12 };
    Some((end, shown(hour, minute, half)))
}

enum Minutes {
    Past(u32),
    To(u32),
}

#[derive(Clone, Copy)]
enum Half {
    Am,
    Pm,
}

fn shown(hour: u32, minute: u32, half: Half) -> String {
    match (hour, minute, half) {
        (12, 0, Half::Pm) => "noon".to_owned(),
        (12, 0, Half::Am) => "midnight".to_owned(),
        (_, 0, Half::Am) => format!("{hour} am"),
        (_, 0, Half::Pm) => format!("{hour} pm"),
        (_, _, Half::Am) => format!("{hour}:{minute:02} am"),
        (_, _, Half::Pm) => format!("{hour}:{minute:02} pm"),
    }
}

/// Where the hour ends, and the hour and the minute.
fn hour(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, u32, u32)> {
    if let Some((hour, minute)) = heard.tokens.get(at)?.word.split_once(':') {
        let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
        return (hour < 24 && minute < 60).then_some((at + 1, hour, minute));
    }
    let (end, number) = super::number(heard, at, ease)?;
    let hour = u32::try_from(number.as_whole()?).ok().filter(|hour| (1..=12).contains(hour))?;
    // "seven thirty pm"
    let minutes = super::number(heard, end, ease).and_then(|(end, number)| Some((end, number.as_whole()?)));
    match minutes {
        Some((end, minute @ 10..=59)) if half_of_day(heard, end, ease).is_some() => {
            Some((end, hour, minute as u32))
        }
        _ => Some((end, hour, 0)),
    }
}

fn half_of_day(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, Half)> {
    let is = |place: usize, words: &[&str]| heard.is_one_of(place, ease, words);
    if is(at, &["am"]) {
        return Some((at + 1, Half::Am));
    }
    if is(at, &["pm"]) {
        return Some((at + 1, Half::Pm));
    }
    let here = match () {
        () if is(at, &["in"]) => at + 1,
        () if is(at, &["at"]) && is(at + 1, &["night"]) => return Some((at + 2, Half::Pm)),
        () => return None,
    };
    if is(here, &["morning"]) {
        return Some((here + 1, Half::Am));
    }
    is(here, &["afternoon", "evening"]).then_some((here + 1, Half::Pm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::kinds::Language;
    use crate::intent::words::Words;

    fn read(text: &str, what: impl Fn(&Heard<'_>, usize, Ease) -> Option<(usize, String)>) -> Option<String> {
        let mut words = Words::default();
        super::super::learn(&mut words, &[Language::En]);
        let heard = Heard::new(text, &words, &[Language::En])?;
        let (end, value) = what(&heard, 0, Ease { misspelt: true, open: false })?;
        (end == heard.len()).then_some(value)
    }

    #[test]
    fn times_are_written_one_way() {
        let cases = [
            ("8am", "8 am"),
            ("8 a.m.", "8 am"),
            ("6 in the morning", "6 am"),
            ("6 in the monring", "6 am"),
            ("12 pm", "noon"),
            ("midday", "noon"),
            ("12 noon", "noon"),
            ("12 am", "midnight"),
            ("7:30 pm", "7:30 pm"),
            ("19:30", "7:30 pm"),
            ("00:15", "12:15 am"),
            ("seven thirty pm", "7:30 pm"),
            ("half past 7 in the evening", "7:30 pm"),
            ("quarter to 1 pm", "12:45 pm"),
            ("9 o'clock at night", "9 pm"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text, time).as_deref(), Some(expected), "{text}");
        }
        for text in ["8", "8:30", "13 pm", "25:00"] {
            assert_eq!(read(text, time), None, "{text} could be either");
        }
    }

    #[test]
    fn days_are_written_one_way() {
        let cases = [
            ("on Monday", "on Monday"),
            ("fri", "on Friday"),
            ("this coming Friday", "on Friday"),
            ("next Tuesday", "next Tuesday"),
            ("tdoay", "today"),
            ("the day after tomorrow", "the day after tomorrow"),
            ("over the weekend", "this weekend"),
            ("every Sunday", "every Sunday"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text, day).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(read("on today", day), None);
    }
}
