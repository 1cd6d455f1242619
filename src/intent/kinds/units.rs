//! Units of measure, and how one becomes another.

use crate::intent::exact::Exact;
use crate::intent::heard::{Ease, Heard};
use std::collections::HashMap;
use std::sync::OnceLock;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Length,
    Mass,
    Volume,
    Temperature,
    Time,
    Speed,
    Area,
    Data,
}

/// Name, other names, what is measured, and how many of the base unit one of it is, as a fraction.
type Row = (&'static str, &'static [&'static str], Measure, i128, i128);

/// The table. Definitions are exact: the international foot, pound and the US gallon are fractions of the metre, the
/// kilogram and the litre by law.
const UNITS: [Row; 45] = [
    ("meters", &["meter", "metre", "metres", "m", "mtr"], Measure::Length, 1, 1),
    ("kilometers", &["kilometer", "kilometre", "kilometres", "km", "kms"], Measure::Length, 1000, 1),
    ("centimeters", &["centimeter", "centimetre", "centimetres", "cm", "cms"], Measure::Length, 1, 100),
    ("millimeters", &["millimeter", "millimetre", "millimetres", "mm"], Measure::Length, 1, 1000),
    ("feet", &["foot", "ft"], Measure::Length, 3048, 10_000),
    ("inches", &["inch", "in", "ins"], Measure::Length, 254, 10_000),
    ("yards", &["yard", "yd", "yds"], Measure::Length, 9144, 10_000),
    ("miles", &["mile", "mi"], Measure::Length, 1_609_344, 1000),
    ("nautical miles", &["nautical mile", "nmi"], Measure::Length, 1852, 1),
    ("grams", &["gram", "gramme", "grammes", "g", "gr"], Measure::Mass, 1, 1000),
    ("kilograms", &["kilogram", "kilo", "kilos", "kg", "kgs", "kilogrammes"], Measure::Mass, 1, 1),
    ("milligrams", &["milligram", "mg"], Measure::Mass, 1, 1_000_000),
    ("tonnes", &["tonne", "metric ton", "metric tons"], Measure::Mass, 1000, 1),
    ("pounds", &["pound", "lb", "lbs"], Measure::Mass, 45_359_237, 100_000_000),
    ("ounces", &["ounce", "oz"], Measure::Mass, 45_359_237, 1_600_000_000),
    ("stones", &["stone"], Measure::Mass, 635_029_318, 100_000_000),
    ("liters", &["liter", "litre", "litres", "l", "ltr"], Measure::Volume, 1, 1),
    ("milliliters", &["milliliter", "millilitre", "millilitres", "ml"], Measure::Volume, 1, 1000),
    ("gallons", &["gallon", "gal", "gals"], Measure::Volume, 3_785_411_784, 1_000_000_000),
    ("quarts", &["quart", "qt", "qts"], Measure::Volume, 946_352_946, 1_000_000_000),
    ("pints", &["pint", "pt", "pts"], Measure::Volume, 473_176_473, 1_000_000_000),
    ("cups", &["cup"], Measure::Volume, 2_365_882_365, 10_000_000_000),
    ("fluid ounces", &["fluid ounce", "fl oz"], Measure::Volume, 295_735_295_625, 10_000_000_000_000),
    ("tablespoons", &["tablespoon", "tbsp"], Measure::Volume, 1_478_676_478_125, 100_000_000_000_000),
    ("teaspoons", &["teaspoon", "tsp"], Measure::Volume, 492_892_159_375, 100_000_000_000_000),
    (
        "celsius",
        &["c", "centigrade", "degrees celsius", "degrees c", "degrees centigrade"],
        Measure::Temperature,
        1,
        1,
    ),
    ("fahrenheit", &["f", "degrees fahrenheit", "degrees f"], Measure::Temperature, 5, 9),
    ("kelvin", &["k", "kelvins", "degrees kelvin"], Measure::Temperature, 1, 1),
    ("milliseconds", &["millisecond", "ms", "msec", "millis"], Measure::Time, 1, 1000),
    ("seconds", &["second", "sec", "secs", "s"], Measure::Time, 1, 1),
    ("minutes", &["minute", "min", "mins"], Measure::Time, 60, 1),
    ("hours", &["hour", "hr", "hrs", "h"], Measure::Time, 3600, 1),
    ("days", &["day"], Measure::Time, 86_400, 1),
    ("weeks", &["week", "wk", "wks"], Measure::Time, 604_800, 1),
    ("miles per hour", &["mile per hour", "mph"], Measure::Speed, 44_704, 100_000),
    (
        "kilometers per hour",
        &["kilometer per hour", "kph", "kmh", "kilometres per hour"],
        Measure::Speed,
        1000,
        3600,
    ),
    ("meters per second", &["meter per second", "metres per second", "mps"], Measure::Speed, 1, 1),
    ("knots", &["knot", "kn"], Measure::Speed, 1852, 3600),
    ("square meters", &["square meter", "square metres", "sqm"], Measure::Area, 1, 1),
    ("square feet", &["square foot", "sq ft", "sqft"], Measure::Area, 9_290_304, 100_000_000),
    ("acres", &["acre"], Measure::Area, 40_468_564_224, 10_000_000),
    ("hectares", &["hectare", "ha"], Measure::Area, 10_000, 1),
    ("kilobytes", &["kilobyte", "kb"], Measure::Data, 1, 1),
    ("megabytes", &["megabyte", "mb"], Measure::Data, 1000, 1),
    ("gigabytes", &["gigabyte", "gb"], Measure::Data, 1_000_000, 1),
];

/// The most words in a unit's name.
const MOST_WORDS: usize = 3;

fn rows() -> &'static HashMap<&'static str, &'static Row> {
    static ROWS: OnceLock<HashMap<&'static str, &'static Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let mut rows = HashMap::new();
        for row in &UNITS {
            for name in std::iter::once(&row.0).chain(row.1) {
                rows.entry(*name).or_insert(row);
            }
        }
        rows
    })
}

pub(super) fn words() -> impl Iterator<Item = String> {
    let names = UNITS.iter().flat_map(|row| std::iter::once(&row.0).chain(row.1));
    names.flat_map(|name| name.split(' ')).map(str::to_owned)
}

/// Every unit, as slots name it.
pub(in crate::intent) fn unit_names() -> impl Iterator<Item = &'static str> {
    UNITS.iter().map(|row| row.0)
}

/// The unit that is named at this place, and where its name ends.
pub(in crate::intent) fn unit(heard: &Heard<'_>, at: usize, ease: Ease) -> Option<(usize, &'static str)> {
    (1..=MOST_WORDS).rev().find_map(|length| {
        let end = at + length;
        if end > heard.len() {
            return None;
        }
        let mut name = String::new();
        for place in at..end {
            if place > at {
                name.push(' ');
            }
            let word = heard.meaning(place, ease, |word| is_part(word).then(|| word.to_owned()))?;
            name.push_str(&word);
        }
        rows().get(name.as_str()).map(|row| (end, row.0))
    })
}

fn is_part(word: &str) -> bool {
    static PARTS: OnceLock<std::collections::HashSet<String>> = OnceLock::new();
    PARTS.get_or_init(|| words().collect()).contains(word)
}

/// `value`, given in the unit `from`, in the unit `to`. `None` where one cannot become the other.
pub(in crate::intent) fn convert(value: Exact, from: &str, to: &str) -> Option<Exact> {
    let (from, to) = (rows().get(from)?, rows().get(to)?);
    if from.2 != to.2 {
        return None;
    }
    if from.2 == Measure::Temperature {
        return from_celsius(to_celsius(value, from.0)?, to.0);
    }
    value.times(Exact::fraction(from.3, from.4)?)?.by(Exact::fraction(to.3, to.4)?)
}

fn to_celsius(value: Exact, from: &str) -> Option<Exact> {
    match from {
        "fahrenheit" => value.minus(Exact::whole(32))?.times(Exact::fraction(5, 9)?),
        "kelvin" => value.minus(Exact::fraction(27_315, 100)?),
        _ => Some(value),
    }
}

fn from_celsius(value: Exact, to: &str) -> Option<Exact> {
    match to {
        "fahrenheit" => value.times(Exact::fraction(9, 5)?)?.plus(Exact::whole(32)),
        "kelvin" => value.plus(Exact::fraction(27_315, 100)?),
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str, from: &str, to: &str) -> Option<String> {
        convert(Exact::parse(value)?, from, to).map(|value| value.to_string())
    }

    #[test]
    fn conversions_are_exact() {
        let cases = [
            ("5", "miles", "kilometers", "8.04672"),
            ("1", "inches", "centimeters", "2.54"),
            ("212", "fahrenheit", "celsius", "100"),
            ("-40", "celsius", "fahrenheit", "-40"),
            ("1", "pounds", "ounces", "16"),
            ("1", "gallons", "cups", "16"),
            ("1", "tablespoons", "teaspoons", "3"),
            ("90", "minutes", "hours", "1.5"),
            ("100", "kelvin", "celsius", "-173.15"),
        ];
        for (value, from, to, expected) in cases {
            assert_eq!(shown(value, from, to).as_deref(), Some(expected), "{value} {from} {to}");
        }
    }

    #[test]
    fn a_pound_is_no_length() {
        assert_eq!(shown("1", "pounds", "meters"), None);
        assert_eq!(shown("1", "pounds", "euros"), None);
    }
}
