//! What a template gives inside a JSON string. ContainerPilot rendered a file before it read it as JSON, so what a template
//! writes there is more of the string's source: `\"` is a quote, and a quote ends the string.

use super::go::{Expr, Kind, Node};

/// Texts that stand in a template, as what they mean in the string.
pub(super) fn unescape(nodes: &mut [Node]) {
    each_text(nodes, &mut |text| {
        if text.contains('\\') {
            let quoted = format!("\"{}\"", text.replace("\\'", "'").replace('"', "\\\"").replace("\\\\\"", "\\\""));
            if let Ok(plain) = serde_json::from_str(&quoted) {
                *text = plain;
            }
        }
    });
}

/// Whether a text of a template has a quote that ends the string it is in.
pub(super) fn ends_the_string(nodes: &mut [Node], quote: char) -> bool {
    let mut ends = false;
    each_text(nodes, &mut |text| {
        let mut escaped = false;
        for c in text.chars() {
            ends |= c == quote && !escaped;
            escaped = c == '\\' && !escaped;
        }
    });
    ends
}

/// Goes through the texts that a template writes, be it by an expression.
fn each_text(nodes: &mut [Node], see: &mut dyn FnMut(&mut String)) {
    for node in nodes {
        match &mut node.kind {
            Kind::Text(text) => see(text),
            Kind::Print(value) => each_written(value, see),
            Kind::If(_, then, otherwise) | Kind::With(_, _, then, otherwise) | Kind::Range(_, then, otherwise) => {
                each_text(then, see);
                each_text(otherwise, see);
            }
            Kind::Declare(..) => {}
        }
    }
}

fn each_written(expr: &mut Expr, see: &mut dyn FnMut(&mut String)) {
    match expr {
        Expr::Text(text) => see(text),
        Expr::Call(function, args) => {
            // What is compared, or looked for, isn't written.
            let before = match function.as_str() {
                "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "not" | "len" | "env" | "index" | "loop" => args.len(),
                "split" | "replaceAll" | "regexReplaceAll" => 1,
                _ => 0,
            };
            args.iter_mut().skip(before).for_each(|arg| each_written(arg, see));
        }
        _ => {}
    }
}
