//! The picture of a container's life, `docs/life.svg`, drawn from the table that the core goes by.
//!
//! The stages stand below one another. From one to the next goes a straight arrow; every other transition goes by a lane at
//! the right, which those share that lead to one stage for one reason. What leads to it is written where the lane ends.

use std::fmt::Write;

use crate::supervisor::sequence::life::{StageName, TRANSITIONS};
use crate::supervisor::vocabulary::Phase;

const WIDTH: usize = 150;
const LEFT: usize = 20;
/// Between two stages.
const GAP: usize = 44;
/// Between two lines that end at one stage.
const LINE: usize = 20;
/// The text that is written on a lane's end has room left of the lanes.
const TEXT: usize = 205;
const LANE: usize = 22;

/// Transitions to one stage for one reason, but those straight to the next.
struct Lane {
    because: &'static str,
    from: Vec<usize>,
    to: usize,
}

/// A box, and how many lines end at its right side.
#[derive(Default)]
struct Stage {
    top: usize,
    height: usize,
    lines: usize,
}

impl Stage {
    /// Where the next line ends.
    fn line(&mut self) -> usize {
        self.lines += 1;
        self.top + self.lines * LINE - LINE / 4
    }
}

fn stages() -> Vec<StageName> {
    let mut stages = Vec::new();
    for stage in TRANSITIONS.iter().flat_map(|(from, _, to)| [*from, *to]) {
        if !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    // What everything ends in comes last.
    stages.sort_by_key(|stage| stage.phase() as u8);
    stages
}

/// `WaitingInRole` as people write it.
fn words(stage: StageName) -> String {
    let mut words = String::new();
    for letter in format!("{stage:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

pub(crate) fn picture() -> String {
    let stages = stages();
    let place = |stage: StageName| stages.iter().position(|one| *one == stage).expect("a stage of the table");
    let (mut straight, mut lanes) = (Vec::new(), Vec::<Lane>::new());
    for (from, because, to) in TRANSITIONS {
        let (from, to) = (place(from), place(to));
        match lanes.iter_mut().find(|lane| lane.because == because && lane.to == to) {
            Some(lane) => lane.from.push(from),
            None if to == from + 1 => straight.push((from, because)),
            None => lanes.push(Lane { because, from: vec![from], to }),
        }
    }
    // Short ones are nearer, so that few lines cross.
    lanes.sort_by_key(|lane| lane.from.iter().map(|from| from.abs_diff(lane.to)).max());

    let mut boxes: Vec<Stage> = stages.iter().map(|_| Stage::default()).collect();
    for (at, stage) in boxes.iter_mut().enumerate() {
        let ends = lanes.iter().map(|lane| lane.from.iter().chain([&lane.to]).filter(|end| **end == at).count());
        stage.height = (LINE * (ends.sum::<usize>() + 1)).max(2 * LINE) - LINE / 2;
    }
    let mut top = LINE;
    for stage in &mut boxes {
        stage.top = top;
        top += stage.height + GAP;
    }
    let (width, height) = (LEFT + WIDTH + TEXT + LANE * (lanes.len() + 1), top - GAP + LINE);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>A container's life: its stages, and what leads from one to another</title>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#345\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#fff\"/>\n\
         <g fill=\"none\" stroke=\"#345\">\n"
    );
    let (right, mut texts) = (LEFT + WIDTH, String::new());
    let mut write = |line: String| writeln!(svg, "{line}").expect("a String takes everything");
    for (from, because) in straight {
        let (x, y, end) = (LEFT + WIDTH / 2, boxes[from].top + boxes[from].height, boxes[from + 1].top);
        write(format!("<path d=\"M{x} {y}V{end}\" marker-end=\"url(#tip)\"/>"));
        texts += &format!("<text x=\"{}\" y=\"{}\">{because}</text>\n", x + 10, (y + end) / 2 + 4);
    }
    for (number, lane) in lanes.iter().enumerate() {
        let x = right + TEXT + LANE * (number + 1);
        let to = boxes[lane.to].line();
        for from in &lane.from {
            let from = boxes[*from].line();
            write(format!("<path d=\"M{right} {from}H{x}V{to}\"/>"));
        }
        write(format!("<path d=\"M{x} {to}H{right}\" marker-end=\"url(#tip)\"/>"));
        texts += &format!("<text x=\"{}\" y=\"{}\">{}</text>\n", right + 14, to - 4, lane.because);
    }
    for (stage, Stage { top, height, .. }) in stages.iter().zip(&boxes) {
        let fill = match stage.phase() {
            Phase::Starting | Phase::Standby => "#e6effa",
            Phase::Running => "#dff3e1",
            Phase::Stopping => "#f6e7e4",
        };
        write(format!(
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\" fill=\"{fill}\"/>"
        ));
        let (x, y) = (LEFT + WIDTH / 2, top + height / 2 + 5);
        texts += &format!(
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>\n",
            words(*stage)
        );
    }
    format!("{svg}</g>\n<g fill=\"#123\">\n{texts}</g>\n</svg>\n")
}

#[test]
fn every_transition_is_in_the_picture() {
    let picture = picture();
    for (from, because, to) in TRANSITIONS {
        for part in [words(from), because.to_owned(), words(to)] {
            assert!(picture.contains(&format!(">{part}</text>")), "{part}");
        }
    }
    // One that isn't straight is a line from its stage, and each lane has one more to its own.
    let lines = picture.matches("<path d=").count() - 1;
    assert!(lines > TRANSITIONS.len(), "{lines} lines for {} transitions", TRANSITIONS.len());
}
