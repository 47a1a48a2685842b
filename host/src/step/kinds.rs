//! The kinds of steps that plan themselves: their keys in a job file, and what reads their options.

use std::sync::Arc;

use crate::job::table::Table;
use crate::operator::Limits;
use crate::step::cast::CastDefinition;
use crate::step::count::Count;
use crate::step::dedup::Dedup;
use crate::step::definition::StepDefinition;
use crate::step::distinct::Distinct;
use crate::step::drop::DropDefinition;
use crate::step::filter::FilterDefinition;
use crate::step::group::Group;
use crate::step::join::{JoinDefinition, JoinOptions, ReadJoin};
use crate::step::limit::Limit;
use crate::step::rename::RenameDefinition;
use crate::step::sample::Sample;
use crate::step::select::SelectDefinition;
use crate::step::sort::Sort;
use crate::step::sql::SqlDefinition;
use crate::step::top_k::TopK;
use crate::step::update_state::UpdateState;
use crate::step::watermark::WatermarkDefinition;
use crate::step::window::Window;
use crate::step::with::WithDefinition;

/// The keys that name a kind, in the order in which they are listed to people.
pub(crate) const KINDS: &[&str] = &[
    "filter",
    "with",
    "select",
    "rename",
    "cast",
    "drop",
    "sql",
    "group",
    "cogroup",
    "update-state",
    "window",
    "join",
    "watermark",
    "count",
    "count-by-value",
    "distinct",
    "dedup",
    "top-k",
    "sort",
    "limit",
    "sample",
];

/// What was read of a step.
#[derive(Default)]
pub(crate) struct Parsed {
    /// The step; `None`: its options are wrong, and the mistakes are in the table's problems.
    pub(crate) definition: Option<Arc<dyn StepDefinition>>,
    /// The streams that it reads besides `from`, and the keys that name them, as in `join.with`.
    pub(crate) inputs: Vec<(String, &'static str)>,
    /// Whether the names of `from` are sides of their own, and not united: the first is `from`, and the definition names the
    /// others.
    pub(crate) keeps_inputs_apart: bool,
    /// Further streams that come out of it, each with a name of its own.
    pub(crate) side_streams: Vec<SideStream>,
}

/// A stream that comes out of a step besides its rows: planned as a step that reads the same `from`.
pub(crate) struct SideStream {
    /// Its name.
    pub(crate) name: String,
    /// The key that names it, as in `aggregate.late`.
    pub(crate) key: &'static str,
    /// What it is.
    pub(crate) definition: Arc<dyn StepDefinition>,
    /// The stream that it reads instead of `from`.
    pub(crate) from: Option<String>,
}

impl Parsed {
    /// A step that reads `from` alone.
    pub(crate) fn of<D: StepDefinition + 'static>(definition: Option<D>) -> Self {
        let definition = definition.map(|definition| Arc::new(definition) as Arc<dyn StepDefinition>);
        Self { definition, ..Self::default() }
    }
}

/// Reads the options of a step of one of [`KINDS`] from the step's table. `limits` are the job's, for steps with a plugin.
pub(crate) fn parse(kind: &str, table: &mut Table<'_>, limits: &Limits) -> Parsed {
    match kind {
        "join" => {
            let ReadJoin { options, with, side_streams } = JoinOptions::parse(table);
            let inputs = with.into_iter().map(|with| (with, "join.with")).collect();
            Parsed { inputs, side_streams, ..Parsed::of(options.map(JoinDefinition)) }
        }
        "group" => Group::parse("group", table, limits),
        "cogroup" => Group::parse("cogroup", table, limits),
        "update-state" => Parsed::of(UpdateState::parse(table, limits)),
        "window" => Window::parse(table),
        "filter" => Parsed::of(FilterDefinition::parse(table, limits)),
        "with" => Parsed::of(WithDefinition::parse(table, limits)),
        "select" => Parsed::of(SelectDefinition::parse(table, limits)),
        "rename" => Parsed::of(RenameDefinition::parse(table)),
        "cast" => Parsed::of(CastDefinition::parse(table)),
        "drop" => Parsed::of(DropDefinition::parse(table)),
        "sql" => Parsed { keeps_inputs_apart: true, ..Parsed::of(SqlDefinition::parse(table, limits)) },
        "watermark" => Parsed::of(WatermarkDefinition::parse(table)),
        "count" => Parsed::of(Count::Rows.parse(table)),
        "count-by-value" => Parsed::of(Count::ByValue.parse(table)),
        "distinct" => Parsed::of(Distinct::parse(table)),
        "dedup" => Parsed::of(Dedup::parse(table)),
        "top-k" => Parsed::of(TopK::parse(table)),
        "sort" => Parsed::of(Sort::parse(table)),
        "limit" => Parsed::of(Limit::parse(table)),
        "sample" => Parsed::of(Sample::parse(table)),
        _ => Parsed::default(),
    }
}
