//! Names and who reads from whom: unknown names, duplicates, cycles, and what leads nowhere.

use std::collections::{BTreeMap, BTreeSet};

use super::nearest::{nearest, suggest};
use super::table::{Reader, Table};
use super::tree::Place;

/// A name in a `from`, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) place: Place,
    /// Whether it is a side of its own, as the right side of a join, and not united with others. It may be a table then.
    pub(super) is_side: bool,
}

/// What a named part of a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Source,
    Table,
    /// The stream of a source's rejected rows, or of a step's bad ones.
    DeadLetter,
    Step,
    /// The stream of rows that came too late for a step.
    Late,
    Sink,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Table => "table",
            Kind::DeadLetter => "dead letter",
            Kind::Step => "step",
            Kind::Late => "stream of late rows",
            Kind::Sink => "sink",
        }
    }
}

/// A part of a job, whether or not the rest of it is right.
struct Part {
    kind: Kind,
    name: String,
    from: Vec<Input>,
    /// The step that it comes out of, if it is a stream beside one.
    of: Option<String>,
    header: Place,
}

impl Part {
    fn is_table(&self, name: &str) -> bool {
        self.kind == Kind::Table && self.name == name
    }
}

/// All names of a job and what each reads from.
#[derive(Default)]
pub(super) struct Names {
    parts: Vec<Part>,
    /// Whether some part has no name that can be used: then what reads from it cannot be told from a mistake.
    nameless: bool,
}

impl Names {
    pub(super) fn add_source(&mut self, reader: &Reader, name: &str, place: Place, header: Place) {
        self.add(reader, Part { kind: Kind::Source, name: name.into(), from: Vec::new(), of: None, header }, place);
    }

    pub(super) fn add_table(&mut self, reader: &Reader, name: &str, place: Place, header: Place) {
        self.add(reader, Part { kind: Kind::Table, name: name.into(), from: Vec::new(), of: None, header }, place);
    }

    /// Adds the stream of what a source rejects, which is named at `place`; `of_step`: of what that step with these inputs sets aside.
    pub(super) fn add_dead_letter(
        &mut self,
        reader: &Reader,
        name: &str,
        of_step: Option<(&str, &[Input])>,
        place: Place,
    ) {
        let (of, from) = of_step.map_or((None, Vec::new()), |(of, from)| (Some(of.to_owned()), from.to_vec()));
        self.add(reader, Part { kind: Kind::DeadLetter, name: name.into(), from, of, header: place.clone() }, place);
    }

    pub(super) fn add_step(&mut self, reader: &Reader, name: &str, from: &[Input], place: Place, header: Place) {
        self.add(reader, Part { kind: Kind::Step, name: name.into(), from: from.to_vec(), of: None, header }, place);
    }

    /// Adds the stream of rows that come too late for the step `of`, which is named at `place`.
    pub(super) fn add_late(&mut self, reader: &Reader, name: &str, of: &str, from: &[Input], place: Place) {
        let (of, from) = (Some(of.to_owned()), from.to_vec());
        let part = Part { kind: Kind::Late, name: name.into(), from, of, header: place.clone() };
        self.add(reader, part, place);
    }

    pub(super) fn add_sink(&mut self, reader: &Reader, name: &str, from: &[Input], place: Place, header: Place) {
        self.add(reader, Part { kind: Kind::Sink, name: name.into(), from: from.to_vec(), of: None, header }, place);
    }

    /// Notes that a part has no usable name.
    pub(super) fn add_nameless(&mut self) {
        self.nameless = true;
    }

    /// Sources, tables and steps share one set of names, because steps name all of them; sinks have their own.
    fn add(&mut self, reader: &Reader, part: Part, place: Place) {
        let is_sink = part.kind == Kind::Sink;
        let same = |other: &&Part| other.name == part.name && (other.kind == Kind::Sink) == is_sink;
        if let Some(other) = self.parts.iter().find(same) {
            let message = format!("there already is a {} `{}`", other.kind.word(), part.name);
            reader.problem(&place, message, Some("Give each its own name.".into()));
        }
        self.parts.push(part);
    }

    /// Records every mistake among the names.
    pub(super) fn check(&self, reader: &Reader) {
        let meant = self.check_inputs(reader);
        self.check_cycles(reader);
        if let Some(meant) = meant {
            self.check_ends(reader, &meant);
        }
    }

    /// Names that can stand in a `from`.
    fn producers(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter(|part| part.kind != Kind::Sink).map(|part| part.name.as_str())
    }

    /// Unknown names and doubled ones; returns the names that were probably meant, if that can be told.
    fn check_inputs(&self, reader: &Reader) -> Option<BTreeSet<&str>> {
        let known: BTreeSet<&str> = self.producers().collect();
        let mut meant = BTreeSet::new();
        let mut is_told = true;
        for part in &self.parts {
            let mut seen = BTreeSet::new();
            for input in &part.from {
                if !input.is_side && !seen.insert(input.name.as_str()) {
                    let message = format!("`{}` stands in `from` twice, which would double its rows", input.name);
                    reader.problem(&input.place, message, None);
                }
                if known.contains(input.name.as_str()) {
                    if !input.is_side && self.parts.iter().any(|other| other.is_table(&input.name)) {
                        let message = format!("`{}` is a table, and rows do not flow out of a table", input.name);
                        let hint = "Join a stream with it: `join = { with = \"…\", on = [\"…\"] }`.";
                        reader.problem(&input.place, message, Some(hint.into()));
                    }
                    continue;
                }
                let others = || known.iter().copied().filter(|name| *name != part.name);
                match nearest(&input.name, others()) {
                    Some(near) => _ = meant.insert(near),
                    None => is_told = false,
                }
                if self.parts.iter().any(|other| other.name == input.name) {
                    let message = format!("`{}` is a sink, and nothing comes out of a sink", input.name);
                    reader.problem(&input.place, message, None);
                } else {
                    let message = format!("there is no source or step `{}`", input.name);
                    reader.problem(&input.place, message, suggest(&input.name, "There are", others()));
                }
            }
        }
        is_told.then_some(meant)
    }

    /// Steps that read from themselves, through others or not.
    fn check_cycles(&self, reader: &Reader) {
        let mut steps: BTreeMap<&str, &Part> = BTreeMap::new();
        for part in self.parts.iter().filter(|part| matches!(part.kind, Kind::Step | Kind::Late | Kind::DeadLetter)) {
            steps.entry(&part.name).or_insert(part);
        }
        // A name that a source has too has been told, and it cannot be said which of them is meant.
        let is_producer = |part: &&Part| {
            matches!(part.kind, Kind::Source | Kind::Table) || part.kind == Kind::DeadLetter && part.from.is_empty()
        };
        for part in self.parts.iter().filter(is_producer) {
            steps.remove(part.name.as_str());
        }
        loop {
            // What reads from no step that is left is in no cycle, and is left out in its turn.
            loop {
                let is_free = |part: &Part| part.from.iter().all(|input| !steps.contains_key(input.name.as_str()));
                let free: Vec<&str> = steps.iter().filter(|(_, part)| is_free(part)).map(|(name, _)| *name).collect();
                if free.is_empty() {
                    break;
                }
                steps.retain(|name, _| !free.contains(name));
            }
            let Some(cycle) = find_cycle(&steps) else { return };
            let (name, input) = cycle[0];
            // Said in the direction of the flow: a step, then who reads from it.
            let mut names: Vec<&str> = cycle.iter().rev().map(|(name, _)| *name).collect();
            names.rotate_right(1);
            names.push(name);
            let flow = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
            let mut hint = "Rows flow one way, from sources to sinks.".to_owned();
            let message = if let Some((kind, of, beside, names)) = through_side_stream(&steps, &names) {
                let what = if kind == Kind::Late { "late rows" } else { "dead letters" };
                hint += &format!(
                    " Read `{beside}` in a sink, or in steps whose rows do not come to `{of}`; rows that they have put right join the others \
                     behind it, as in `from = [\"{of}\", …]`."
                );
                format!("step `{of}` reads its own {what}: {}", flow(&names))
            } else if cycle.len() == 1 {
                format!("step `{name}` reads from itself")
            } else {
                format!("the steps {} form a cycle", flow(&names))
            };
            reader.problem(&input.place, message, Some(hint));
            steps.retain(|name, _| cycle.iter().all(|(of_cycle, _)| of_cycle != name));
        }
    }

    /// Sources and steps that nothing reads.
    fn check_ends(&self, reader: &Reader, meant: &BTreeSet<&str>) {
        // Without sinks everything ends nowhere, and that has been said.
        if self.nameless || !self.parts.iter().any(|part| part.kind == Kind::Sink) {
            return;
        }
        let read: BTreeSet<&str> =
            self.parts.iter().flat_map(|part| &part.from).map(|input| input.name.as_str()).collect();
        for part in self.parts.iter().filter(|part| part.kind != Kind::Sink) {
            if !read.contains(part.name.as_str()) && !meant.contains(part.name.as_str()) {
                let article = if part.kind == Kind::Late { "the " } else { "" };
                let message = format!("nothing reads from {article}{} `{}`", part.kind.word(), part.name);
                let hint = match part.kind {
                    Kind::Table => "Name it in the `with` of a join, or remove the table.".into(),
                    Kind::Late => {
                        let read = format!("Read it, as in `from = \"{}\"` of a step or a sink", part.name);
                        format!("{read}, or remove the key: late rows are then left out and counted.")
                    }
                    kind => format!("Name it in the `from` of a step or a sink, or remove the {}.", kind.word()),
                };
                reader.problem(&part.header, message, Some(hint));
            }
        }
    }
}

/// A cycle that goes through a stream beside a step: what that is, the step, the stream, and the whole way from the step back to it.
/// `names` are those of the cycle in the direction of the flow, the first once more at the end.
fn through_side_stream<'a>(
    steps: &BTreeMap<&'a str, &'a Part>,
    names: &[&'a str],
) -> Option<(Kind, &'a str, &'a str, Vec<&'a str>)> {
    let mut names = names.split_last().map(|(_, names)| names.to_vec())?;
    let side = |name: &&str| steps.get(name).and_then(|part| Some((part.kind, part.of.as_deref()?)));
    let first = names.iter().position(|name| side(name).is_some())?;
    names.rotate_left(first);
    let (kind, of) = side(&names[0])?;
    let mut way: Vec<&str> = Vec::new();
    for name in &names {
        // What comes out beside a step has gone into it.
        let of = side(name).map(|(_, of)| of).filter(|of| way.last() != Some(of));
        way.extend(of);
        way.push(name);
    }
    if way.last() != Some(&of) {
        way.push(of);
    }
    Some((kind, of, names[0], way))
}

/// A cycle among steps of which each reads from another of them; `None` when there are none. Each step of the cycle
/// stands with its input that is the next.
fn find_cycle<'a>(steps: &BTreeMap<&'a str, &'a Part>) -> Option<Vec<(&'a str, &'a Input)>> {
    let mut at = *steps.keys().next()?;
    let mut path: Vec<(&str, &Input)> = Vec::new();
    loop {
        // Going on and on among finitely many steps comes back somewhere.
        if let Some(first) = path.iter().position(|(name, _)| *name == at) {
            return Some(path.split_off(first));
        }
        let next = steps.get(at)?.from.iter().find(|input| steps.contains_key(input.name.as_str()))?;
        path.push((at, next));
        at = &next.name;
    }
}

impl Table<'_> {
    /// The `from` of a step or sink, with places; empty when it is absent or wrong.
    pub(super) fn from(&mut self, names: &mut Names) -> Vec<Input> {
        if !self.has("from") {
            let _ = self.node("from");
            self.missing("from", Some("Name the source or step that rows come from.".into()));
            names.add_nameless();
            return Vec::new();
        }
        let Some(texts) = self.texts("from") else {
            names.add_nameless();
            return Vec::new();
        };
        if texts.is_empty() {
            self.problem("from", "`from` is empty", Some("Name the source or step that rows come from.".into()));
            names.add_nameless();
        }
        let is_list = self.node("from").is_some_and(|node| matches!(node.value, super::tree::Value::List(_)));
        let place = |index: usize| self.place(&if is_list { format!("from.{index}") } else { "from".into() });
        texts.into_iter().enumerate().map(|(index, name)| Input { place: place(index), name, is_side: false }).collect()
    }

    /// The `name` of a source, step or sink; a mistake when it is absent or cannot be a name.
    pub(super) fn name(&mut self) -> Option<String> {
        self.name_at("name")
    }

    /// A name that stands at `key`.
    pub(super) fn name_at(&mut self, key: &'static str) -> Option<String> {
        /// Names stand in logs, metrics, paths: long ones are a mistake.
        const CHARS_MAX: usize = 100;
        let name = self.required_text(key)?;
        let is_name =
            name.chars().count() <= CHARS_MAX && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
        if !is_name {
            let hint = format!("Names are letters, digits, `-` and `_`, at most {CHARS_MAX} of them.");
            self.problem(key, format!("`{name}` cannot be a name"), Some(hint));
            return None;
        }
        Some(name)
    }
}
