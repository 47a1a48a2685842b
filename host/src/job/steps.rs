//! The `[[step]]` tables: one key names the kind, the others are its options.

use super::grants::read_grants;
use super::nearest::{list, nearest};
use super::settings::{PARTITIONS_MAX, read_step_limits};
use super::table::Table;
use super::tree::{Place, Value};
use super::{OperatorRef, OperatorStep, Step, StepKind, graph, read_on_error};
use crate::operator::Limits;
use crate::step::kinds::{self, Parsed};
use crate::step::windowed::{Computes, Over, WindowedDefinition, read_over};

/// The kinds of steps that are read here: the keys that name them. Those of `kinds` read and plan themselves.
const KINDS: [&str; 5] = ["transform", "aggregate", "reduce", "union", "repartition"];

/// The keys of all kinds.
fn all_kinds() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().chain(kinds::KINDS.iter().copied())
}

/// The keys of all kinds, for people.
pub(super) fn list_of_kinds() -> String {
    list(&all_kinds().collect::<Vec<_>>())
}

/// The keys of steps that run a plugin.
const PLUGIN_KEYS: [&str; 10] = [
    "config",
    "limits",
    "grants",
    "sha256",
    "instance",
    "whole-partition",
    "on-error",
    "dead-letter",
    "dead-letter-rate",
    "dead-letter-min-rows",
];

/// Why steps that make one result of many rows cannot set bad ones aside, and what to do instead.
const NO_DEAD_LETTERS: (&str, &str) = (
    "`aggregate` and `reduce` have no dead letters: they make one result of many rows, and which of them is bad cannot be told",
    "Choices: `fail`, `skip-batch`. A `filter` or a `transform` before it can set bad rows aside.",
);

/// Reads one step into `steps`, if it is right.
pub(super) fn read_step(
    mut table: Table<'_>,
    place: &Place,
    job_limits: &Limits,
    names: &mut graph::Names,
    steps: &mut Vec<Step>,
) {
    let name = table.name();
    let from = table.from(names);
    let spans = table.spans();
    let parsed = read_kind(&mut table, name.as_deref().unwrap_or("?"), job_limits);
    let mut inputs = from.clone();
    inputs.extend(parsed.inputs.iter().map(|(name, key)| graph::Input {
        name: name.clone(),
        place: table.place(key),
        is_side: true,
    }));
    match &name {
        Some(name) => names.add_step(table.reader(), name, &inputs, table.place("name"), place.clone()),
        None => names.add_nameless(),
    }
    // Known also when the rest is wrong, so that who reads from it is not wrong too.
    if table.has("dead-letter")
        && let Some(dead_letter) = table.name_at("dead-letter")
    {
        let of_step = Some((name.as_deref().unwrap_or("?"), &*from));
        names.add_dead_letter(table.reader(), &dead_letter, of_step, table.place("dead-letter"));
    }
    for side in &parsed.side_streams {
        // What a stream beside a step follows it needs, as the step does.
        let needed = if side.definition.follows().is_empty() { &from } else { &inputs };
        let of = name.as_deref().unwrap_or("?");
        names.add_late(table.reader(), &side.name, of, needed, table.place(side.key));
    }
    table.finish();
    let mut from: Vec<String> = from.into_iter().map(|input| input.name).collect();
    if parsed.keeps_inputs_apart {
        from.truncate(1);
    }
    for side in parsed.side_streams {
        let kind = StepKind::Built(side.definition);
        let from = side.from.map_or_else(|| from.clone(), |from| vec![from]);
        steps.push(Step { name: side.name, from, kind, spans: spans.clone() });
    }
    if let (Some(name), Some(kind)) = (name, parsed.kind) {
        steps.push(Step { name, from, kind, spans });
    }
}

/// What was read of a step's kind.
#[derive(Default)]
struct Read {
    kind: Option<StepKind>,
    inputs: Vec<(String, &'static str)>,
    keeps_inputs_apart: bool,
    side_streams: Vec<kinds::SideStream>,
}

impl From<Option<StepKind>> for Read {
    fn from(kind: Option<StepKind>) -> Self {
        Self { kind, ..Self::default() }
    }
}

/// What the step does. All kinds are known keys from now on.
fn read_kind(table: &mut Table<'_>, step: &str, job_limits: &Limits) -> Read {
    for kind in all_kinds() {
        let _ = table.node(kind);
    }
    let found: Vec<&'static str> = all_kinds().filter(|kind| table.has(kind)).collect();
    let Some((&kind, others)) = found.split_first() else {
        // Which keys a plugin would have is not known either.
        forget_plugin_keys(table);
        // A misspelt kind is told as an unknown key, which says it better.
        if !table.keys().any(|key| !PLUGIN_KEYS.contains(&key) && nearest(key, all_kinds()).is_some()) {
            table.missing_kind(step, &format!("One key of a step names its kind: {}.", list_of_kinds()));
        }
        return Read::default();
    };
    for other in others {
        let message = format!("step `{step}` has two kinds, `{kind}` and `{other}`");
        table.problem(other, message, Some("Make two steps of it.".into()));
    }
    let kind = match kind {
        "transform" => {
            let path = read_plugin(table, "transform");
            read_operator(table, path, None, job_limits, None).map(StepKind::Transform)
        }
        "aggregate" => return read_aggregate(table, job_limits),
        "reduce" => return read_reduce(table, job_limits),
        "union" => read_union(table),
        "repartition" => read_repartition(table),
        kind => {
            let Parsed { definition, inputs, keeps_inputs_apart, side_streams } = kinds::parse(kind, table, job_limits);
            return Read { kind: definition.map(StepKind::Built), inputs, keeps_inputs_apart, side_streams };
        }
    };
    kind.into()
}

fn read_union(table: &mut Table<'_>) -> Option<StepKind> {
    refuse_plugin_keys(table, "union");
    if table.boolean("union")? {
        return Some(StepKind::Union);
    }
    table.problem("union", "`union` can only be true", Some("Leave the key out for another kind of step.".into()));
    None
}

/// A step over more than one batch, if its options are right.
fn windowed(
    over: Option<Over>,
    computes: Option<Computes>,
    by: Vec<String>,
    partitions: Option<u32>,
) -> Option<StepKind> {
    let definition = WindowedDefinition { computes: computes?, by, partitions, over: over? };
    Some(StepKind::Built(std::sync::Arc::new(definition)))
}

fn read_aggregate(table: &mut Table<'_>, job_limits: &Limits) -> Read {
    let Some(mut aggregate) = table.table("aggregate") else {
        forget_plugin_keys(table);
        return Read::default();
    };
    let by = aggregate.texts("by").unwrap_or_default();
    let partitions = read_partitions(&mut aggregate);
    let over = read_over(&mut aggregate, "aggregate.late");
    let is_plugin = aggregate.has("plugin");
    match (aggregate.has("select"), is_plugin) {
        (true, true) => {
            let message = "`aggregate` has both `select` and `plugin`";
            aggregate.problem("plugin", message, Some("Write two steps, or leave one out.".into()));
        }
        (false, false) => {
            let hint = "Write `select = { count = \"count(*)\" }`, or `plugin = \"….wasm\"`.";
            aggregate.missing("select", Some(hint.into()));
        }
        _ => {}
    }
    let select = aggregate.named_texts("select");
    if select.as_ref().is_some_and(Vec::is_empty) {
        aggregate.problem("select", "`select` is empty", Some("Write `select = { count = \"count(*)\" }`.".into()));
    }
    if is_plugin {
        let operator = read_inner_plugin(aggregate, table, job_limits, Some(NO_DEAD_LETTERS));
        let kind = if over.is_there {
            windowed(over.over, operator.map(Computes::Aggregator), by, partitions)
        } else {
            operator.map(|operator| StepKind::AggregateWith { by, operator, partitions })
        };
        return Read { kind, side_streams: over.side_streams, ..Read::default() };
    }
    let _ = aggregate.node("plugin");
    aggregate.finish();
    refuse_plugin_keys(table, "aggregate");
    let kind = if over.is_there {
        windowed(over.over, select.map(Computes::Select), by, partitions)
    } else {
        select.map(|select| StepKind::Aggregate { by, select, partitions })
    };
    Read { kind, side_streams: over.side_streams, ..Read::default() }
}

fn read_reduce(table: &mut Table<'_>, job_limits: &Limits) -> Read {
    let Some(mut reduce) = table.table("reduce") else {
        forget_plugin_keys(table);
        return Read::default();
    };
    let by = reduce.texts("by").unwrap_or_default();
    let partitions = read_partitions(&mut reduce);
    let over = read_over(&mut reduce, "reduce.late");
    let operator = read_inner_plugin(reduce, table, job_limits, Some(NO_DEAD_LETTERS));
    let kind = if over.is_there {
        windowed(over.over, operator.map(Computes::Reducer), by, partitions)
    } else {
        operator.map(|operator| StepKind::Reduce { by, operator, partitions })
    };
    Read { kind, side_streams: over.side_streams, ..Read::default() }
}

fn read_repartition(table: &mut Table<'_>) -> Option<StepKind> {
    refuse_plugin_keys(table, "repartition");
    let is_table = table.node("repartition").is_some_and(|node| matches!(node.value, Value::Table(_)));
    if !is_table {
        let partitions = table.integer("repartition", 1..=PARTITIONS_MAX)?;
        return Some(StepKind::Repartition {
            partitions: u32::try_from(partitions).ok()?,
            by: Vec::new(),
            range: false,
        });
    }
    let mut inner = table.table("repartition")?;
    if !inner.has("partitions") {
        inner.missing("partitions", Some("Say how many.".into()));
    }
    let partitions = read_partitions(&mut inner);
    let by = inner.texts("by");
    let range = inner.boolean("range").unwrap_or(false);
    if range && !inner.has("by") {
        inner.missing("by", Some("Say by what rows are ordered, as in `by = [\"price desc\"]`.".into()));
    } else if range && by.as_ref().is_some_and(Vec::is_empty) {
        inner.problem("by", "`by` is empty", Some("Say by what rows are ordered, as in `[\"price desc\"]`.".into()));
    }
    inner.finish();
    Some(StepKind::Repartition { partitions: partitions?, by: by.unwrap_or_default(), range })
}

pub(crate) fn read_partitions(table: &mut Table<'_>) -> Option<u32> {
    table.integer("partitions", 1..=PARTITIONS_MAX).and_then(|partitions| u32::try_from(partitions).ok())
}

/// The plugin of a table such as `aggregate` or `group`, which ends here. `config` may stand in it or beside it. `no_dead_letters`:
/// why such a step sets no rows aside, and what to do instead.
pub(crate) fn read_inner_plugin(
    mut inner: Table<'_>,
    table: &mut Table<'_>,
    job_limits: &Limits,
    no_dead_letters: Option<(&str, &str)>,
) -> Option<OperatorStep> {
    let path = read_plugin(&mut inner, "plugin");
    let config = if inner.has("config") {
        if table.has("config") {
            inner.problem("config", "`config` is given twice, here and in the step", None);
        }
        read_config(&mut inner)
    } else {
        let _ = inner.node("config");
        None
    };
    inner.finish();
    read_operator(table, path, config, job_limits, no_dead_letters)
}

/// A table that is about a plugin alone, as a function of SQL, which ends here: the plugin and its options stand in it.
pub(crate) fn read_plugin_alone(mut table: Table<'_>, job_limits: &Limits) -> Option<OperatorStep> {
    for key in &PLUGIN_KEYS[5..] {
        if table.node(key).is_some() {
            table.problem(key, format!("`{key}` is for a whole step"), None);
        }
    }
    let path = read_plugin(&mut table, "plugin");
    let config = read_config(&mut table);
    let operator = read_options(&mut table, path, config, job_limits);
    table.finish();
    operator
}

/// The plugin file that `key` names: as it is written, and the path to open.
fn read_plugin(table: &mut Table<'_>, key: &'static str) -> Option<(String, std::path::PathBuf)> {
    let written = table.required_text(key)?;
    let path = table.existing_file(key)?;
    Some((written, path))
}

/// The options of a step that runs a plugin, from the step's table.
fn read_operator(
    table: &mut Table<'_>,
    plugin: Option<(String, std::path::PathBuf)>,
    config: Option<serde_json::Value>,
    job_limits: &Limits,
    no_dead_letters: Option<(&str, &str)>,
) -> Option<OperatorStep> {
    let config = read_config(table).or(config);
    let operator = read_options(table, plugin, config, job_limits);
    let whole_partition = table.boolean("whole-partition").unwrap_or(false);
    let on_error = read_on_error(table, no_dead_letters);
    Some(OperatorStep { whole_partition, on_error, ..operator? })
}

/// The options of a plugin itself, wherever it runs.
fn read_options(
    table: &mut Table<'_>,
    plugin: Option<(String, std::path::PathBuf)>,
    config: Option<serde_json::Value>,
    job_limits: &Limits,
) -> Option<OperatorStep> {
    let limits = table.table("limits").map(|limits| read_step_limits(limits, job_limits));
    let grants = table.table("grants").map(read_grants).unwrap_or_default();
    let sha256 = table.text("sha256").and_then(|digest| {
        if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(digest.to_ascii_lowercase());
        }
        let hint = "`tidemill plugin inspect` shows a plugin's digest.".into();
        table.problem("sha256", "`sha256` must be 64 hexadecimal digits", Some(hint));
        None
    });
    let fresh = table.choice("instance", &[("kept", false), ("fresh", true)]).unwrap_or(false);
    let (written, path) = plugin?;
    let operator = OperatorStep::new(OperatorRef::Plugin { written, path, sha256, fresh });
    let config = config.unwrap_or_else(|| operator.config.clone());
    Some(OperatorStep { config, grants, limits: limits.unwrap_or_else(|| job_limits.clone()), ..operator })
}

fn read_config(table: &mut Table<'_>) -> Option<serde_json::Value> {
    let config = table.json("config")?;
    if config.is_object() {
        return Some(config);
    }
    table.problem("config", "`config` must be a table", Some("Write `config = { key = value }`.".into()));
    None
}

/// Knows the keys of plugin steps without reading them: whether they belong here cannot be told.
pub(crate) fn forget_plugin_keys(table: &mut Table<'_>) {
    for key in PLUGIN_KEYS {
        let _ = table.node(key);
    }
}

/// A step without a plugin has no options of one.
pub(crate) fn refuse_plugin_keys(table: &mut Table<'_>, kind: &str) {
    refuse_plugin_keys_but(table, kind, &[]);
}

/// As [`refuse_plugin_keys`], for a step that has keys of the same names as some.
pub(crate) fn refuse_plugin_keys_but(table: &mut Table<'_>, kind: &str, own: &[&str]) {
    for key in PLUGIN_KEYS {
        if own.contains(&key) || table.node(key).is_none() {
            continue;
        }
        table.problem(key, format!("`{key}` is for steps that run a plugin, and this `{kind}` does not"), None);
    }
}

impl Table<'_> {
    fn missing_kind(&mut self, step: &str, hint: &str) {
        let place = self.place("");
        self.reader().problem(&place, format!("step `{step}` does nothing"), Some(hint.into()));
    }
}
