//! The plots of `docs/performance.md`, `docs/growth-AXIS.svg`, drawn from what `make growth` and `make density` measured
//! (`tests/bench/growth.csv`): of each axis how memory, processor and latency grow, both scales logarithmic.

use std::collections::BTreeMap;
use std::fmt::Write;

/// An axis: its name in the file, what is counted, and what processor and latency are of.
pub(super) const AXES: [(&str, &str, &str, &str); 6] = [
    ("instances", "instances of the watched service", "per change", "change to hook, median"),
    ("checks", "checks, each once a second", "per second", "a check comes late, 99 %"),
    ("watches", "watches, each of its own service", "per second at rest", "change to hook, median"),
    ("orphans", "orphans that wait together", "for all of them", "until all are reaped, median"),
    ("members", "members of the election", "per second, leader at rest", "step-down to the next leader"),
    ("agents", "agents on one machine", "per second, of each", "the latest check is late"),
];

/// How a series is drawn: its colour by day and by night, for the colour-blind too, and its dashes for whoever sees none.
const STYLES: [(&str, &str, &str); 3] =
    [("#0060a8", "#5cb8f5", "none"), ("#c04a00", "#ff9d57", "7 3"), ("#00795a", "#3fd0a5", "2 3")];

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 300.0;
const PANEL: f64 = 215.0;
/// Left of the first panel, and of each other one: room for the numbers at its axis.
const LEFT: f64 = 62.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 248.0;

/// Of one series, by what was counted: memory in MiB, processor and latency in milliseconds.
type Series = BTreeMap<u32, [Option<f64>; 3]>;

/// The plot of an axis, from the lines `axis,series,n,memory_kib,cpu_ms,latency_ms`.
pub(super) fn plot(csv: &str, axis: &str) -> String {
    let (_, counted, cpu, latency) = AXES.into_iter().find(|known| known.0 == axis).expect("an axis of the table");
    let all = series(csv, axis);
    let steps: Vec<f64> = all.iter().flat_map(|(_, series)| series.keys().map(|n| f64::from(*n))).collect();
    let across = Scale::around(&steps, LEFT, LEFT + PANEL);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>Memory, processor and latency by {counted}</title>\n<style>\n\
         .paper{{fill:#fff}}text{{fill:#123}}.grid{{stroke:#d8dde3}}\n"
    );
    let mut write = |line: String| writeln!(svg, "{line}").expect("a String takes everything");
    let colours = |at: fn(&(&'static str, &'static str, &'static str)) -> &'static str| -> String {
        let rule = |(n, style)| format!(".s{n}{{stroke:{0}}}.d{n}{{fill:{0}}}", at(style));
        STYLES.iter().enumerate().map(rule).collect()
    };
    write(colours(|style| style.0));
    write(format!(
        "@media (prefers-color-scheme:dark){{.paper{{fill:#15191e}}text{{fill:#dce3ea}}.grid{{stroke:#343c45}}{}}}\n</style>",
        colours(|style| style.1)
    ));
    write(format!("<rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>"));
    for (n, (name, _)) in all.iter().enumerate() {
        let (x, dashes) = (LEFT + 110.0 * n as f64, STYLES[n].2);
        write(format!(
            "<path class=\"s{n}\" d=\"M{x} 22h30\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{}\" y=\"26\">{name}</text>",
            x + 36.0
        ));
    }
    write(format!("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{counted}</text>", WIDTH / 2.0, HEIGHT - 14.0));

    let titles = ["memory, MiB".to_owned(), format!("processor {cpu}, ms"), format!("{latency}, ms")];
    for (panel, title) in titles.iter().enumerate() {
        let aside = (LEFT + PANEL + 12.0) * panel as f64;
        let values: Vec<f64> =
            all.iter().flat_map(|(_, series)| series.values().filter_map(|values| values[panel])).collect();
        let up = Scale::around(&values, BOTTOM, TOP);
        write(format!(
            "<g transform=\"translate({aside} 0)\">\n<text x=\"{LEFT}\" y=\"{}\">{title}</text>",
            TOP - 14.0
        ));
        for (value, y) in up.ticks() {
            write(format!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}h{PANEL}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                number(value)
            ));
        }
        for (value, x) in across.ticks() {
            write(format!(
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 16.0,
                number(value)
            ));
        }
        for (n, (_, series)) in all.iter().enumerate() {
            let measured = series.iter().filter_map(|(count, values)| Some((f64::from(*count), values[panel]?)));
            let points: Vec<(f64, f64)> = measured.map(|(count, value)| (across.at(count), up.at(value))).collect();
            if points.is_empty() {
                continue;
            }
            let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let dashes = STYLES[n].2;
            write(format!(
                "<path class=\"s{n}\" d=\"M{}\" fill=\"none\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
                line.join("L")
            ));
            for (x, y) in points {
                write(format!("<circle class=\"d{n}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"));
            }
        }
        write("</g>".to_owned());
    }
    svg + "</svg>\n"
}

fn series<'a>(csv: &'a str, axis: &str) -> Vec<(&'a str, Series)> {
    let mut all: Vec<(&str, Series)> = Vec::new();
    for line in csv.lines() {
        let [of, name, n, memory, cpu, latency] =
            line.split(',').collect::<Vec<_>>().try_into().expect("six fields a line");
        if of != axis {
            continue;
        }
        // What is nearly nothing has a place on a logarithmic scale, too.
        let value = |text: &str, unit: f64| text.parse::<f64>().ok().map(|value| (value / unit).max(0.01));
        let values = [value(memory, 1024.0), value(cpu, 1.0), value(latency, 1.0)];
        if all.last().is_none_or(|(last, _)| *last != name) {
            all.push((name, Series::new()));
        }
        let (_, series) = all.last_mut().expect("one was pushed");
        series.insert(n.parse().expect("a number"), values);
    }
    all
}

/// A logarithmic scale: from `low` to `high`, drawn between two places.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// What holds all these values, from a tick to a tick.
    fn around(values: &[f64], from: f64, to: f64) -> Scale {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let low = round_numbers().rev().find(|tick| *tick <= least * 1.001).unwrap_or(0.01);
        // Two ticks at least.
        let high = round_numbers().find(|tick| *tick * 1.001 >= most && *tick > low * 1.9).unwrap_or(low * 10.0);
        Scale { low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * (value / self.low).log10() / (self.high / self.low).log10()
    }

    /// Round numbers with their places: powers of ten alone where these are many.
    fn ticks(&self) -> Vec<(f64, f64)> {
        let inside = |tick: &f64| (self.low * 0.999..=self.high * 1.001).contains(tick);
        let is_power = |tick: f64| (tick.log10() - tick.log10().round()).abs() < 0.001;
        let many = round_numbers().filter(inside).count() > 6;
        let ticks = round_numbers().filter(inside).filter(|tick| !many || is_power(*tick));
        ticks.map(|tick| (tick, self.at(tick))).collect()
    }
}

/// 1, 2 and 5, and these by powers of ten.
fn round_numbers() -> impl DoubleEndedIterator<Item = f64> {
    (-2..7).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

fn number(value: f64) -> String {
    match value {
        1000.0.. => format!("{},{:03}", value as u64 / 1000, value.round() as u64 % 1000),
        1.0.. => format!("{value:.0}"),
        _ => format!("{}", (value * 100.0).round() / 100.0),
    }
}

#[test]
fn every_measured_value_is_in_the_plot_and_inside_its_panel() {
    let csv = "axis,series,n,memory_kib,cpu_ms,latency_ms\nwatches,consul,1,5000,0.1,4\nwatches,consul,1000,90000,12,\n\
               watches,etcd,10,5000,0.000,0.5\n";
    let plot = plot(csv, "watches");
    // Three of memory, three of processor, two of latency.
    assert_eq!(plot.matches("<circle").count(), 8, "{plot}");
    for place in plot.split("cy=\"").skip(1) {
        let y: f64 = place.split('"').next().and_then(|y| y.parse().ok()).expect("a number");
        assert!((TOP - 0.1..=BOTTOM + 0.1).contains(&y), "{y}");
    }
    for text in ["consul", "etcd", "memory, MiB", "1,000"] {
        assert!(plot.contains(&format!(">{text}</text>")), "{text}");
    }
}
