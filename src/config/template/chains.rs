//! How deep a template's program is nested, by its tokens. The backend bounds brackets and blocks, but not chains: each
//! link of `a.b.c`, `1 + 1 + 1`, `x | f | g`, `not not x` or `elif … elif` is a step further down where it compiles them,
//! and the thread's stack ends before a file of that does.

use minijinja::machinery::{Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

/// In any sensible template there are a dozen; a thousand are far from the end of a stack of 2 MiB.
const MOST_LINKS: usize = 1_000;

/// # Errors
/// Something in it is a longer chain, or it can't be read as a template.
pub(super) fn check(name: &str, source: &str, syntax: SyntaxConfig) -> Result<(), Error> {
    let mut tokens = Tokenizer::new(source, name, false, syntax);
    let (mut expression, mut branches) = (Chain::default(), Chain::default());
    let mut begins_block = false;
    while let Some((token, span)) = tokens.next_token()? {
        match &token {
            Token::BlockStart | Token::VariableStart => expression = Chain::default(),
            Token::Ident("if") if begins_block => branches.open(),
            Token::Ident("endif") if begins_block => branches.close(),
            Token::Ident("elif") if begins_block => branches.link(),
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                // `a[b]` and `a(b)` are links themselves.
                expression.link();
                expression.open();
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => expression.close(),
            Token::Comma => expression.next(),
            Token::Ident("and" | "or" | "not" | "if" | "else" | "in" | "is") => expression.link(),
            Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::FloorDiv
            | Token::Pow
            | Token::Mod
            | Token::Dot
            | Token::Tilde
            | Token::Pipe
            | Token::Eq
            | Token::Ne
            | Token::Gt
            | Token::Gte
            | Token::Lt
            | Token::Lte => expression.link(),
            _ => {}
        }
        begins_block = matches!(token, Token::BlockStart);
        if expression.sum.max(branches.sum) > MOST_LINKS {
            let what = format!("more than {MOST_LINKS} operations hang on each other, in line {}", span.start_line);
            return Err(Error::new(ErrorKind::SyntaxError, what));
        }
    }
    Ok(())
}

/// Links that hang on each other, with those around them.
#[derive(Default)]
struct Chain {
    sum: usize,
    here: usize,
    around: Vec<usize>,
}

impl Chain {
    fn link(&mut self) {
        self.here += 1;
        self.sum += 1;
    }

    fn open(&mut self) {
        self.around.push(std::mem::take(&mut self.here));
    }

    fn close(&mut self) {
        self.sum -= self.here;
        self.here = self.around.pop().unwrap_or(0);
    }

    /// What follows hangs on nothing before it, but on what is around both.
    fn next(&mut self) {
        self.sum -= self.here;
        self.here = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: &str) -> Result<(), String> {
        check("t.j2", source, SyntaxConfig::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_chain_has_a_thousand_links_at_most() {
        for (link, end) in [
            ("not ", "1"),
            ("-", "1"),
            ("1 + ", "1"),
            ("a.", "b"),
            ("1 if 0 else ", "1"),
            ("1 and ", "1"),
            ("'a' ~ ", "'a'"),
            ("a == ", "a"),
        ] {
            let chain = |links: usize| format!("{{{{ {}{end} }}}}", link.repeat(links));
            assert!(of(&chain(400)).is_ok(), "{link}");
            assert!(of(&chain(1_001)).unwrap_err().contains("hang on each other"), "{link}");
        }
        assert!(of(&format!("{{{{ 1{} }}}}", " | string".repeat(1_001))).is_err());
        assert!(of(&format!("{{{{ a{} }}}}", "[0]".repeat(1_001))).is_err());
        assert!(of(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(1_001))).is_err());
        // Chains within brackets hang on those around them.
        let nested = format!("{{{{ {}[{}] }}}}", "1 + ".repeat(600), "1 + ".repeat(600) + "1");
        assert!(of(&nested).is_err());
    }

    #[test]
    fn what_stands_side_by_side_is_no_chain() {
        let list = format!("{{% set all = [{}] %}}", "{'a': env.A, 'b': 1 + 2}, ".repeat(5_000));
        assert!(of(&list).is_ok());
        assert!(of(&"{{ env.A }}{% if a.b %}x{% elif c.d %}y{% endif %}".repeat(5_000)).is_ok());
        assert!(of("{% raw %}{{ 1 + {% endraw %} #}").is_ok());
    }
}
