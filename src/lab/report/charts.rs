//! The pictures of a report: SVG, drawn by `plotters`.
//!
//! Their colours are names: [`DARK`] says for each what it is on a dark page, and a style sheet swaps them.

use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;

/// How a picture is told apart on both kinds of page: the colour that is drawn, and that on a dark page.
pub(super) const DARK: [(&str, &str); 9] = [
    ("#8FBCE6", "#4A7FB0"),
    ("#1B2530", "#E4EAF0"),
    ("#66727F", "#9AA7B4"),
    ("#DFE5EA", "#303B46"),
    ("#1F6FB4", "#6CB2F0"),
    ("#2A9D6F", "#5FD1A3"),
    ("#D9822B", "#F2B266"),
    ("#B8C4CF", "#566371"),
    ("#C23B4E", "#F28794"),
];

const INK: RGBColor = RGBColor(0x1B, 0x25, 0x30);
const QUIET: RGBColor = RGBColor(0x66, 0x72, 0x7F);
const GRID: RGBColor = RGBColor(0xDF, 0xE5, 0xEA);
pub(super) const BLUE: RGBColor = RGBColor(0x1F, 0x6F, 0xB4);
pub(super) const SKY: RGBColor = RGBColor(0x8F, 0xBC, 0xE6);
pub(super) const GREEN: RGBColor = RGBColor(0x2A, 0x9D, 0x6F);
pub(super) const AMBER: RGBColor = RGBColor(0xD9, 0x82, 0x2B);
pub(super) const GREY: RGBColor = RGBColor(0xB8, 0xC4, 0xCF);
pub(super) const RED: RGBColor = RGBColor(0xC2, 0x3B, 0x4E);

const WIDTH: i32 = 760;
const FONT: &str = "system-ui, sans-serif";

type Drawn = Result<String, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn drawn(height: u32, draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn Error>>) -> Drawn {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height)).into_drawing_area();
        draw(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// Of bars there are only a few.
fn count(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX >> 8)
}

fn small() -> TextStyle<'static> {
    (FONT, 13).into_font().color(&QUIET)
}

/// The most numbers along an axis.
const LABELS: usize = 8;

/// Shares of an axis up to `most`, written so that no two of its numbers look the same.
fn percents(most: f64) -> impl Fn(f64) -> String {
    let step = 100.0 * most / LABELS as f64;
    let decimals = (-step.log10()).ceil().clamp(1.0, 6.0) as usize;
    move |share| format!("{:.decimals$} %", 100.0 * share)
}

/// Axes and what they are called.
struct Axes<'a> {
    x: Range<f64>,
    y: Range<f64>,
    named: (&'a str, &'a str),
    written: (&'a dyn Fn(f64) -> String, &'a dyn Fn(f64) -> String),
}

macro_rules! plane {
    ($area:expr, $axes:expr) => {{
        let Axes { x, y, named: (across, up), written: (write_x, write_y) } = $axes;
        let mut chart = ChartBuilder::on($area)
            .margin(6)
            // The last number of the axis stands half beyond it.
            .margin_right(22)
            .x_label_area_size(40)
            .y_label_area_size(62)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GREY)
            .label_style(small())
            .axis_desc_style(small())
            .x_labels(LABELS)
            .y_labels(5)
            .x_label_formatter(&|at| write_x(*at))
            .y_label_formatter(&|at| write_y(*at))
            .x_desc(across)
            .y_desc(up)
            .draw()?;
        chart
    }};
}

/// A little more than the most, so that nothing touches the frame.
fn up_to(most: f64) -> f64 {
    if most > 0.0 { most * 1.08 } else { 1.0 }
}

/// A part of a bar: what it is, how much, and in which colour.
pub(super) type Part<'a> = (&'a str, f64, RGBColor);

/// Bars that are cut into parts, one below the other, each as long as the others.
pub(super) fn shares(bars: &[(&str, Vec<Part<'_>>)]) -> Drawn {
    const BAR: i32 = 34;
    const STEP: i32 = 58;
    const LEFT: i32 = 62;
    let height = count(bars.len()) * STEP + 8;
    drawn(height as u32, |area| {
        let room = f64::from(WIDTH - LEFT - 8);
        for (nth, (name, parts)) in bars.iter().enumerate() {
            let top = count(nth) * STEP + 4;
            let all: f64 = parts.iter().map(|(_, count, _)| count).sum::<f64>().max(1.0);
            area.draw(&Text::new((*name).to_owned(), (0, top + 10), (FONT, 15).into_font().color(&INK)))?;
            let mut from = 0.0;
            for (what, share, colour) in parts.iter().filter(|(_, share, _)| *share > 0.0) {
                let width = share / all * room;
                let (left, right) = (LEFT + from as i32, LEFT + (from + width) as i32);
                area.draw(&Rectangle::new([(left, top), (right.max(left + 1), top + BAR)], colour.filled()))?;
                // A part that is too small for its words is told in the table.
                if width > 86.0 {
                    let text = format!("{what} {:.0} %", 100.0 * share / all);
                    area.draw(&Text::new(text, (left + 4, top + BAR + 4), small()))?;
                }
                from += width;
            }
        }
        Ok(())
    })
}

/// How much there is in each step.
pub(super) struct Step {
    pub(super) from: f64,
    pub(super) to: f64,
    /// In the front colour, and behind it.
    pub(super) front: f64,
    pub(super) behind: f64,
}

/// Steps as columns, the front part below the part behind.
pub(super) fn columns(
    steps: &[Step],
    named: (&str, &str),
    colours: (RGBColor, RGBColor),
    written: (&dyn Fn(f64) -> String, &dyn Fn(f64) -> String),
) -> Drawn {
    let most = steps.iter().map(|step| step.front + step.behind).fold(0.0, f64::max);
    let from = steps.first().map_or(0.0, |step| step.from);
    let to = steps.last().map_or(1.0, |step| step.to);
    drawn(260, |area| {
        let axes = Axes { x: from..to, y: 0.0..up_to(most), named, written };
        let mut chart = plane!(area, axes);
        let gap = (to - from) / steps.len().max(1) as f64 * 0.08;
        for Step { from, to, front, behind } in steps {
            let column = |bottom: f64, top: f64, colour: RGBColor| {
                Rectangle::new([(from + gap, bottom), (to - gap, top)], colour.filled())
            };
            let parts = [(0.0, *front, colours.0), (*front, front + behind, colours.1)];
            let parts = parts.into_iter().filter(|(bottom, top, _)| top > bottom);
            chart.draw_series(parts.map(|(bottom, top, colour)| column(bottom, top, colour)))?;
        }
        Ok(())
    })
}

/// A line that grows, and what it could be at most.
pub(super) fn growth(
    points: &[(f64, f64)],
    named: (&str, &str),
    written: (&dyn Fn(f64) -> String, &dyn Fn(f64) -> String),
) -> Drawn {
    let most = points.iter().map(|(_, y)| *y).fold(0.0, f64::max);
    let from = points.first().map_or(0.0, |(x, _)| *x);
    let to = points.last().map_or(1.0, |(x, _)| *x).max(from + 1e-9);
    drawn(240, |area| {
        let axes = Axes { x: from..to, y: 0.0..up_to(most), named, written };
        let mut chart = plane!(area, axes);
        let under = AreaSeries::new(points.iter().copied(), 0.0, BLUE.mix(0.18));
        chart.draw_series(under.border_style(BLUE.stroke_width(2)))?;
        Ok(())
    })
}

/// A setting: what it is called, how much it serves, and how much of that is wrong, from least to most.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) served: f64,
    pub(super) wrong: (f64, f64, f64),
}

/// What is served against what is wrong of it.
pub(super) fn against(points: &[Point], named: (&str, &str)) -> Drawn {
    let most = up_to(points.iter().map(|point| point.served).fold(0.0, f64::max));
    let worst = up_to(points.iter().map(|point| point.wrong.2).fold(0.0, f64::max));
    let written = (percents(worst), percents(most));
    drawn(300, |area| {
        let written: (&dyn Fn(f64) -> String, &dyn Fn(f64) -> String) = (&written.0, &written.1);
        let axes = Axes { x: 0.0..worst, y: 0.0..most, named, written };
        let mut chart = plane!(area, axes);
        let spreads = points.iter().map(|Point { served, wrong: (_, least, most), .. }| {
            PathElement::new([(*least, *served), (*most, *served)], GREY.stroke_width(2))
        });
        chart.draw_series(spreads)?;
        let means = points.iter().map(|point| (point.wrong.0, point.served));
        chart.draw_series(LineSeries::new(means.clone(), BLUE.stroke_width(2)))?;
        chart.draw_series(means.map(|at| Circle::new(at, 4, BLUE.filled())))?;
        let at = |point: (f64, f64)| chart.backend_coord(&point);
        let whiskers = points.iter().map(|Point { served, wrong: (_, least, most), .. }| {
            let ((left, y), (right, _)) = (at((*least, *served)), at((*most, *served)));
            Spot { left, top: y - 2, right, bottom: y + 2 }
        });
        let dots = points.iter().map(|point| {
            let (x, y) = at((point.wrong.0, point.served));
            Spot { left: x - 5, top: y - 5, right: x + 5, bottom: y + 5 }
        });
        let line = points.windows(2).flat_map(|pair| {
            let [from, to] = [&pair[0], &pair[1]].map(|point| at((point.wrong.0, point.served)));
            (1..LINE_SPOTS).map(move |step| {
                let along = |from: i32, to: i32| from + (to - from) * step / LINE_SPOTS;
                let (x, y) = (along(from.0, to.0), along(from.1, to.1));
                Spot { left: x - 2, top: y - 2, right: x + 2, bottom: y + 2 }
            })
        });
        let mut taken: Vec<Spot> = whiskers.chain(dots).chain(line).collect();
        // From above down, so that of two that are close the upper one has the upper name.
        let mut from_above: Vec<&Point> = points.iter().collect();
        from_above.sort_by(|a, b| b.served.total_cmp(&a.served));
        for Point { name, served, wrong } in from_above {
            let end = at((wrong.2, *served)).0;
            let place = free(at((wrong.0, *served)), end, name, &taken);
            area.draw(&Text::new(name.clone(), (place.left, place.top), small()))?;
            taken.push(place);
        }
        Ok(())
    })
}

/// Into how many parts a line is cut that names keep away from.
const LINE_SPOTS: i32 = 64;

/// A part of a picture, in dots.
#[derive(Clone, Copy)]
struct Spot {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Spot {
    fn touches(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// Where there is room for the name of a point: behind the `end` of its line, below, above, and ever farther away.
fn free((x, y): (i32, i32), end: i32, name: &str, taken: &[Spot]) -> Spot {
    const LETTER: i32 = 8;
    const LINE: i32 = 15;
    /// Left of it stand the numbers.
    const AXIS: i32 = 74;
    let width = count(name.chars().count()) * LETTER;
    let spot = |left: i32, top: i32| {
        let left = left.min(WIDTH - width).max(AXIS);
        Spot { left, top, right: left + width, bottom: top + LINE }
    };
    let beside = |away: i32| {
        let (below, above) = (y + 7 + away * LINE, y - 6 - LINE - away * LINE);
        [spot(x + 8, below), spot(x + 8, above), spot(x - 8 - width, above), spot(x - 8 - width, below)]
    };
    let mut all = std::iter::once(spot(end + 6, y - 8)).chain((0..6).flat_map(beside));
    let able = all.find(|spot| spot.top >= 0 && !taken.iter().any(|other| spot.touches(other)));
    able.unwrap_or_else(|| spot(x + 8, y + 7))
}

/// Quantiles of each, on a scale on which ten times as long is one step further.
pub(super) fn quantiles(rows: &[(&str, [f64; 3])]) -> Drawn {
    const STEP: i32 = 30;
    const LEFT: i32 = 82;
    const BOTTOM: i32 = 26;
    let height = count(rows.len()) * STEP + BOTTOM + 4;
    let all = rows.iter().flat_map(|(_, all)| all).copied().filter(|ms| *ms > 0.0);
    let least = all.clone().fold(f64::INFINITY, f64::min).max(0.01).log10().floor();
    let most = all.fold(0.1, f64::max).log10().ceil().max(least + 1.0);
    drawn(height as u32, |area| {
        let room = f64::from(WIDTH - LEFT - 40);
        let place = |ms: f64| LEFT + ((ms.max(0.01).log10() - least) / (most - least) * room).max(0.0) as i32;
        let bottom = count(rows.len()) * STEP;
        for power in least as i32..=most as i32 {
            let ms = 10f64.powi(power);
            area.draw(&PathElement::new([(place(ms), 0), (place(ms), bottom)], GRID))?;
            let text = if ms >= 1000.0 { format!("{} s", ms / 1000.0) } else { format!("{ms} ms") };
            area.draw(&Text::new(text, (place(ms) - 14, bottom + 8), small()))?;
        }
        for (nth, (name, [half, most, nearly])) in rows.iter().enumerate() {
            let middle = count(nth) * STEP + STEP / 2;
            area.draw(&Text::new((*name).to_owned(), (0, middle - 7), (FONT, 14).into_font().color(&INK)))?;
            let line = [(place(*half), middle), (place(*nearly), middle)];
            area.draw(&PathElement::new(line, GREY.stroke_width(3)))?;
            for (ms, colour) in [(nearly, AMBER), (most, GREEN), (half, BLUE)] {
                area.draw(&Circle::new((place(*ms), middle), 5, colour.filled()))?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_numbers_of_an_axis_look_the_same() {
        for most in [1.0, 0.5, 0.013, 0.0009, 0.00002] {
            let write = percents(most);
            let mut written: Vec<String> =
                (0..=LABELS).map(|at| write(most * at as f64 / LABELS as f64)).collect();
            written.dedup();
            assert_eq!(written.len(), LABELS + 1, "up to {most}: {written:?}");
        }
        assert_eq!(percents(0.5)(0.25), "25.0 %");
    }

    #[test]
    fn names_of_points_that_are_close_do_not_cover_each_other() {
        let mut taken = vec![Spot { left: 95, top: 95, right: 140, bottom: 110 }];
        for at in [(100, 100), (102, 104), (104, 108), (106, 100)] {
            let spot = free(at, at.0 + 20, "0.005", &taken);
            assert!(taken.iter().all(|other| !spot.touches(other)));
            taken.push(spot);
        }
        assert!(free((WIDTH, 50), WIDTH, "a long name", &[]).right <= WIDTH);
    }
}
