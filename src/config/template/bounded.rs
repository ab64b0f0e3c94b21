//! What a template makes on the way to its output, bounded in length and depth. The backend counts steps, and thirty of
//! them are enough to double one byte to a gigabyte; so its program gets a check before each operation that makes a value
//! longer than its operands, and all text, also what a block captures, passes one that counts it.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use minijinja::machinery::{CompiledTemplate, Instruction, Instructions, TemplateConfig, eval, make_string_output};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

use crate::config::duration;

/// No filter of a template's has such a name: it is no identifier.
const ROOM_FOR_SUM: &str = "+room";
const ROOM_FOR_TEXT: &str = "~room";
const ROOM_FOR_PRODUCT: &str = "*room";
const ROOM_TO_COMPARE: &str = "=room";
const MADE: &str = "+made";
const MADE_OF_OTHERS: &str = "[]made";
const TO_KEEP: &str = "ns.kept";
/// The backend keeps no place for a filter with this number, but looks it up by its name.
const BY_NAME: u8 = !0;
/// Of one list; each takes some 24 bytes, whatever it holds.
const MOST_ITEMS: usize = 1 << 20;
/// Values in values. What holds them is printed, compared and freed by recursion, on a thread's stack.
const DEEPEST: usize = 64;
/// Steps are counted, but one may sort a million items. Whoever waits for a file gives up a little later, and the thread
/// is to be free then.
const LONGEST: Duration = Duration::from_secs(8);
/// The widest field that `format` fills.
const WIDEST: usize = 4096;

#[allow(clippy::disallowed_methods, reason = "how long the machine worked, which no suspend is part of")]
fn instant() -> Instant {
    Instant::now()
}

/// How much a template may still make, and since when it does.
#[derive(Debug)]
pub(super) struct Room {
    limit: usize,
    /// Bytes of output, with what blocks capture.
    output: AtomicUsize,
    /// Bytes of values.
    values: AtomicUsize,
    since: Instant,
}

impl Room {
    /// For a template whose output has at most so many bytes.
    pub(super) fn for_output(limit: usize) -> Arc<Room> {
        let room = Room { limit, output: AtomicUsize::new(0), values: AtomicUsize::new(0), since: instant() };
        room.refill();
        Arc::new(room)
    }

    /// As at the beginning.
    pub(super) fn refill(&self) {
        // What is captured is counted again when it is written.
        self.output.store(2 * self.limit, Relaxed);
        // A text that grows line by line is made anew with each line.
        self.values.store(8 * self.limit, Relaxed);
    }

    /// Whether it ended for want of room.
    pub(super) fn is_used_up(&self) -> bool {
        self.output.load(Relaxed) == 0 || self.values.load(Relaxed) == 0
    }

    fn take(&self, from: &AtomicUsize, bytes: usize) -> Result<(), Error> {
        if self.since.elapsed() > LONGEST {
            return Err(refusal(format!("it takes longer than {}", duration::print(LONGEST))));
        }
        let left = from.load(Relaxed).saturating_sub(bytes);
        from.store(left, Relaxed);
        if left == 0 { Err(refusal("it makes too much")) } else { Ok(()) }
    }

    /// One value of this length, to be made.
    fn value(&self, bytes: usize) -> Result<(), Error> {
        self.take(&self.values, if bytes > self.limit { usize::MAX } else { bytes })
    }

    /// A list's items are shared: it counts only by itself.
    fn list(&self, items: usize) -> Result<(), Error> {
        if items > MOST_ITEMS { self.take(&self.values, usize::MAX) } else { Ok(()) }
    }

    /// Bytes of this value as text, found without making it.
    fn length(&self, value: &Value) -> Result<usize, Error> {
        let mut count = Count { left: self.limit };
        match value.as_str() {
            Some(text) => Ok(text.len()),
            None => {
                self.look_into(value, &mut 0)?;
                match write!(count, "{value}") {
                    Ok(()) => Ok(self.limit - count.left),
                    Err(fmt::Error) => self.take(&self.values, usize::MAX).map(|()| 0),
                }
            }
        }
    }

    /// Whether a value holds others no deeper than may be, nor more of them than there is room for. What one holds twice
    /// counts twice, as it does where it is printed.
    fn look_into(&self, value: &Value, seen: &mut usize) -> Result<(), Error> {
        self.look_from(value, DEEPEST, seen)?;
        self.take(&self.values, *seen)
    }

    fn look_from(&self, value: &Value, deeper: usize, seen: &mut usize) -> Result<(), Error> {
        *seen += 1;
        let is_map = match value.kind() {
            ValueKind::Map => true,
            ValueKind::Seq => false,
            ValueKind::Iterable if value.len().is_some() => false,
            _ => return Ok(()),
        };
        if *seen > self.limit {
            return self.take(&self.values, usize::MAX);
        }
        let deeper = deeper.checked_sub(1).ok_or_else(too_deep)?;
        let Ok(items) = value.try_iter() else { return Ok(()) };
        for item in items {
            if is_map {
                self.look_from(&value.get_item(&item)?, deeper, seen)?;
            }
            self.look_from(&item, deeper, seen)?;
        }
        Ok(())
    }
}

fn too_deep() -> Error {
    refusal(format!("lists or maps are in each other more than {DEEPEST} deep"))
}

fn refusal(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// Whether it is a namespace, or holds one: kept in another, or in itself, it would have no end.
fn holds_namespace(value: &Value) -> bool {
    if value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace")) {
        return true;
    }
    match value.kind() {
        ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|item| holds_namespace(&item))),
        ValueKind::Map => value
            .try_iter()
            .is_ok_and(|mut keys| keys.any(|key| value.get_item(&key).is_ok_and(|item| holds_namespace(&item)))),
        _ => false,
    }
}

struct Count {
    left: usize,
}

impl Write for Count {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// Makes a backend that runs bounded programs.
pub(super) fn add(engine: &mut Environment<'_>, room: &Arc<Room>) {
    let ours = Arc::clone(room);
    engine.set_formatter(move |out, state, value| {
        ours.take(&ours.output, ours.length(value)?)?;
        minijinja::escape_formatter(out, state, value)
    });
    let ours = Arc::clone(room);
    engine.add_filter(ROOM_FOR_TEXT, move |both: &Value| {
        let [left, right] = operands(both)?;
        ours.value(ours.length(&left)?.saturating_add(ours.length(&right)?)).map(|()| both.clone())
    });
    let ours = Arc::clone(room);
    engine.add_filter(ROOM_FOR_SUM, move |both: &Value| {
        let [left, right] = operands(both)?;
        match (left.as_str(), right.as_str()) {
            (Some(left), Some(right)) => ours.value(left.len().saturating_add(right.len())),
            _ => ours.list(items(&left).saturating_add(items(&right))),
        }
        .map(|()| both.clone())
    });
    let ours = Arc::clone(room);
    engine.add_filter(ROOM_FOR_PRODUCT, move |both: &Value| {
        let [left, right] = operands(both)?;
        for (one, times) in [(&left, &right), (&right, &left)] {
            let times = times.as_usize().unwrap_or(0);
            match one.as_str() {
                Some(text) => ours.value(text.len().saturating_mul(times))?,
                None => ours.list(items(one).saturating_mul(times))?,
            }
        }
        Ok::<_, Error>(both.clone())
    });
    let ours = Arc::clone(room);
    engine.add_filter(MADE, move |value: &Value| {
        match value.as_str() {
            Some(text) => ours.value(text.len()),
            None => ours.list(items(value)).and_then(|()| ours.look_into(value, &mut 0)),
        }
        .map(|()| value.clone())
    });
    let ours = Arc::clone(room);
    engine.add_filter(TO_KEEP, move |value: &Value| {
        ours.look_into(value, &mut 0)?;
        match holds_namespace(value) {
            true => Err(refusal("a namespace can't be kept in a namespace")),
            false => Ok(value.clone()),
        }
    });
    let ours = Arc::clone(room);
    engine.add_filter(MADE_OF_OTHERS, move |value: &Value| {
        // A list may hold another twice, and that one yet another twice.
        ours.value(ours.length(value)?).map(|()| value.clone())
    });
    let ours = Arc::clone(room);
    engine.add_filter(ROOM_TO_COMPARE, move |both: &Value| {
        let [left, right] = operands(both)?;
        ours.value(ours.length(&left)?.min(ours.length(&right)?)).map(|()| both.clone())
    });
    bound_filter(engine, room, "replace", minijinja::filters::replace, room_to_replace);
    bound_filter(engine, room, "replaceAll", minijinja::filters::replace, room_to_replace);
    bound_filter(engine, room, "split", minijinja::filters::split, room_to_take_apart);
    bound_filter(engine, room, "lines", minijinja::filters::lines, room_to_take_apart);
    bound_filter(engine, room, "list", minijinja::filters::list, room_to_take_apart);
    bound_filter(engine, room, "sort", minijinja::filters::sort, room_to_take_apart);
    bound_filter(engine, room, "join", minijinja::filters::join, room_to_join);
    bound_filter(engine, room, "indent", minijinja::filters::indent, room_to_indent);
    bound_filter(engine, room, "format", minijinja::filters::format, room_to_format);
}

fn operands(both: &Value) -> Result<[Value; 2], Error> {
    Ok([both.get_item_by_index(0)?, both.get_item_by_index(1)?])
}

fn items(value: &Value) -> usize {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => value.len().unwrap_or(0),
        _ => 0,
    }
}

/// A filter of the backend's own whose result may be longer than all it is given.
fn bound_filter<F, Rv, Args>(
    engine: &mut Environment<'_>,
    room: &Arc<Room>,
    name: &'static str,
    filter: F,
    has_room: fn(&Room, &[Value]) -> Result<(), Error>,
) where
    F: minijinja::functions::Function<Rv, Args>,
    Rv: minijinja::value::FunctionResult,
    Args: for<'a> minijinja::value::FunctionArgs<'a>,
{
    let (room, filter) = (Arc::clone(room), Value::from_function(filter));
    engine.add_filter(name, move |state: &mut State, arguments: Rest<Value>| {
        has_room(&room, &arguments)?;
        filter.call(state, &arguments)
    });
}

fn room_to_replace(room: &Room, arguments: &[Value]) -> Result<(), Error> {
    let text = |n: usize| arguments.get(n).and_then(Value::as_str);
    let (Some(value), Some(from), Some(to)) = (text(0), text(1), text(2)) else { return Ok(()) };
    room.value(value.len().saturating_add(value.matches(from).count().saturating_mul(to.len())))
}

/// A text may come to an item for each byte.
fn room_to_take_apart(room: &Room, arguments: &[Value]) -> Result<(), Error> {
    room.list(arguments.first().and_then(Value::as_str).map_or(0, str::len) / 2)
}

fn room_to_join(room: &Room, arguments: &[Value]) -> Result<(), Error> {
    let Some(list) = arguments.first().filter(|list| list.as_str().is_none()) else { return Ok(()) };
    let joiner = arguments.iter().skip(1).filter_map(Value::as_str).map(str::len).max().unwrap_or(0);
    let mut length = 0usize;
    for item in list.try_iter()? {
        length = length.saturating_add(room.length(&item)?).saturating_add(joiner);
        if length > room.limit {
            break;
        }
    }
    room.value(length)
}

fn room_to_indent(room: &Room, arguments: &[Value]) -> Result<(), Error> {
    let Some(text) = arguments.first().and_then(Value::as_str) else { return Ok(()) };
    let width = |value: &Value| match value.kind() {
        // `indent(width=8)`.
        ValueKind::Map => value.get_attr("width").ok().and_then(|width| width.as_usize()),
        _ => value.as_usize(),
    };
    let width = arguments.iter().skip(1).filter_map(width).max().unwrap_or(4);
    room.value(text.len().saturating_add(text.lines().count().saturating_mul(width)))
}

fn room_to_format(_: &Room, arguments: &[Value]) -> Result<(), Error> {
    let text = arguments.first().and_then(Value::as_str).unwrap_or_default();
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let widths = numbers.map(|digits| digits.parse().unwrap_or(usize::MAX));
    let asked = arguments.iter().skip(1).filter(|_| text.contains('*')).filter_map(Value::as_usize);
    if widths.chain(asked).any(|width| width > WIDEST) {
        let what = format!("a field is wider than {WIDEST} characters");
        return Err(Error::new(ErrorKind::InvalidOperation, what));
    }
    Ok(())
}

/// A template's program, with its checks.
pub(super) fn compile<'s>(name: &'s str, source: &'s str, syntax: SyntaxConfig) -> Result<Instructions<'s>, Error> {
    let config = TemplateConfig { syntax_config: syntax, default_auto_escape: Arc::new(|_| AutoEscape::None) };
    let plain = CompiledTemplate::new(name, source, &config)?.instructions;
    let mut at = Vec::new();
    let mut length = 0;
    while let Some(instruction) = plain.get(at.len() as u32) {
        at.push(length);
        length += checked(instruction).len() as u32;
    }
    at.push(length);
    let place = |old: u32| at.get(old as usize).copied().unwrap_or(length);
    let mut bounded = Instructions::new(name, source);
    for old in 0..at.len() as u32 - 1 {
        let Some(instruction) = plain.get(old) else { break };
        for mut new in checked(instruction) {
            match &mut new {
                Instruction::Iterate(to)
                | Instruction::Jump(to)
                | Instruction::JumpIfFalse(to)
                | Instruction::JumpIfFalseOrPop(to)
                | Instruction::JumpIfTrueOrPop(to) => *to = place(*to),
                _ => {}
            }
            match plain.get_line(old) {
                Some(line) => bounded.add_with_line(new, u16::try_from(line).unwrap_or(u16::MAX)),
                None => bounded.add(new),
            };
        }
    }
    Ok(bounded)
}

/// What stands in an instruction's place.
fn checked<'s>(instruction: &Instruction<'s>) -> Vec<Instruction<'s>> {
    let filter = |name| Instruction::ApplyFilter(name, Some(1), BY_NAME);
    let before = |room| {
        let unpacked = [Instruction::UnpackList(2), Instruction::Swap];
        [Instruction::BuildList(Some(2)), filter(room)]
            .into_iter()
            .chain(unpacked)
            .chain([instruction.clone()])
            .collect()
    };
    match instruction {
        // So that it passes the formatter.
        Instruction::EmitRaw(text) => vec![Instruction::LoadConst(Value::from(*text)), Instruction::Emit],
        Instruction::StringConcat => before(ROOM_FOR_TEXT),
        Instruction::Add => before(ROOM_FOR_SUM),
        Instruction::Mul => before(ROOM_FOR_PRODUCT),
        Instruction::Eq | Instruction::Ne | Instruction::Lt | Instruction::Lte | Instruction::Gt | Instruction::Gte => {
            before(ROOM_TO_COMPARE)
        }
        Instruction::SetAttr(_) => {
            vec![Instruction::Swap, filter(TO_KEEP), Instruction::Swap, instruction.clone()]
        }
        Instruction::BuildList(_) | Instruction::BuildTuple(_) | Instruction::BuildMap(_) => {
            vec![instruction.clone(), filter(MADE_OF_OTHERS)]
        }
        Instruction::ApplyFilter(..) | Instruction::CallFunction(..) | Instruction::CallMethod(..) => {
            vec![instruction.clone(), filter(MADE)]
        }
        _ => vec![instruction.clone()],
    }
}

/// Runs it.
pub(super) fn run<'e>(
    engine: &'e Environment<'e>,
    program: &Instructions<'e>,
    context: Value,
) -> Result<String, Error> {
    let mut output = String::new();
    eval(engine, program, context, &Default::default(), &mut make_string_output(&mut output), AutoEscape::None)?;
    Ok(output)
}
