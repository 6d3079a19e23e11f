//! The curves as a picture: seconds, and the memory of the largest process at each end, by size.
//! Both axes are logarithmic, so what grows as the size does is a line that climbs with it.

use crate::cases::{Outcome, SIZE};
use crate::report::medians;
use std::collections::BTreeMap;
use std::fmt::Write;

const PANEL: (f64, f64) = (300.0, 180.0);
const MARGIN: (f64, f64) = (70.0, 50.0);
const COLORS: [&str; 4] = ["#1b6ca8", "#c0392b", "#2e8b57", "#8e5ea2"];

/// Values of each line by size.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// One picture with two panels for each case that has sizes; none if there is no such case.
pub(crate) fn picture(outcomes: &[Outcome]) -> Option<String> {
    let cases: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome, seconds(outcome), memory(outcome)))
        .filter(|(_, seconds, _)| !seconds.is_empty())
        .collect();
    if cases.is_empty() {
        return None;
    }
    let width = 2.0 * (PANEL.0 + MARGIN.0) + MARGIN.0;
    let row = PANEL.1 + 2.2 * MARGIN.1;
    let height = row * cases.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (number, (outcome, seconds, memory)) in cases.iter().enumerate() {
        let top = row * number as f64 + MARGIN.1;
        let title = format!("{}: {}", outcome.id, outcome.title);
        text(&mut svg, (MARGIN.0, top - 28.0), "start", &title);
        panel(&mut svg, (MARGIN.0, top), "seconds", seconds);
        let left = 2.0 * MARGIN.0 + PANEL.0;
        panel(&mut svg, (left, top), "MiB, largest process", memory);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn seconds(outcome: &Outcome) -> Lines {
    lines(outcome, &[("wall_s", "", 1.0)])
}

fn memory(outcome: &Outcome) -> Lines {
    let ends = [
        ("hub_peak_kib", ", hub", 1024.0),
        ("member_peak_kib", ", member", 1024.0),
    ];
    lines(outcome, &ends)
}

/// For each side, the values of these names by size: name, what is put behind the side's, unit.
fn lines(outcome: &Outcome, values: &[(&str, &str, f64)]) -> Lines {
    let mut lines = Lines::new();
    for row in &outcome.rows {
        let medians = medians(row);
        let Some(size) = medians.get(SIZE) else {
            continue;
        };
        let side = row.side.split(" (").next().unwrap_or_default();
        for (name, end, unit) in values {
            if let Some(value) = medians.get(name).filter(|value| **value > 0.0) {
                let line = lines.entry(format!("{side}{end}")).or_default();
                line.push((*size, value / unit));
            }
        }
    }
    lines
}

fn panel(svg: &mut String, (left, top): (f64, f64), unit: &str, lines: &Lines) {
    let points = || lines.values().flatten();
    let (from_x, to_x) = decades(points().map(|point| point.0));
    let (from_y, to_y) = decades(points().map(|point| point.1));
    let at = |(x, y): (f64, f64)| {
        (
            left + (x.log10() - from_x) / (to_x - from_x) * PANEL.0,
            top + PANEL.1 - (y.log10() - from_y) / (to_y - from_y) * PANEL.1,
        )
    };
    let bottom = top + PANEL.1;
    for decade in whole(from_x, to_x) {
        let (x, _) = at((10_f64.powf(decade), 10_f64.powf(from_y)));
        line(svg, &[(x, top), (x, bottom)], "#dddddd");
        text(svg, (x, bottom + 14.0), "middle", &number(decade));
    }
    for decade in whole(from_y, to_y) {
        let (_, y) = at((10_f64.powf(from_x), 10_f64.powf(decade)));
        line(svg, &[(left, y), (left + PANEL.0, y)], "#dddddd");
        text(svg, (left - 6.0, y + 4.0), "end", &number(decade));
    }
    text(svg, (left, top - 12.0), "start", unit);
    for (nth, (name, points)) in lines.iter().enumerate() {
        let color = COLORS[nth % COLORS.len()];
        let places: Vec<_> = points.iter().map(|point| at(*point)).collect();
        line(svg, &places, color);
        for (x, y) in &places {
            let _infallible = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>"
            );
        }
        // Below the axis, in two columns.
        let x = left + PANEL.0 / 2.0 * (nth % 2) as f64;
        let y = bottom + 32.0 + 13.0 * (nth / 2) as f64;
        let _infallible = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{color}\">{name}</text>"
        );
    }
}

/// The powers of ten around these values.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let logs = values.map(f64::log10);
    let (least, most) = logs.fold((f64::MAX, f64::MIN), |(least, most), log| {
        (least.min(log), most.max(log))
    });
    (least.floor(), most.ceil().max(least.floor() + 1.0))
}

fn whole(from: f64, to: f64) -> impl Iterator<Item = f64> {
    (from as i32..=to as i32).map(f64::from)
}

/// A power of ten in full.
fn number(decade: f64) -> String {
    let value = 10_f64.powf(decade);
    match decade < 0.0 {
        true => format!("{value:.*}", -decade as usize),
        false => format!("{value:.0}"),
    }
}

fn line(svg: &mut String, points: &[(f64, f64)], color: &str) {
    let places: Vec<_> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _infallible = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>",
        places.join(" ")
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let _infallible = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}
