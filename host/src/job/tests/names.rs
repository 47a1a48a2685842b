//! Names, who reads from whom, cycles, and what leads nowhere.

use super::{check, job};

/// A job file of `name <- inputs` lines: sources have no inputs, names of sinks start with `>`.
fn flow(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let (name, inputs) = line.split_once("<-").expect("an arrow");
        let name = name.trim();
        let inputs: Vec<String> = inputs.split_whitespace().map(|input| format!("'{input}'")).collect();
        let inputs = inputs.join(", ");
        text.push_str(&match (name.strip_prefix('>'), inputs.is_empty()) {
            (Some(""), _) => format!("[[sink]]\nfrom = [{inputs}]\ntype = 'console'\n"),
            (Some(name), _) => format!("[[sink]]\nname = '{name}'\nfrom = [{inputs}]\ntype = 'console'\n"),
            (None, true) => format!("[[source]]\nname = '{name}'\ntype = 'stdin'\n"),
            (None, false) => format!("[[step]]\nname = '{name}'\nfrom = [{inputs}]\nunion = true\n"),
        });
    }
    text
}

#[track_caller]
fn check_flow(lines: &[&str], expected: &str) {
    check(&flow(lines), expected);
}

#[test]
fn names_lead_from_sources_to_sinks() {
    check_flow(&["a <-", "b <- a", "> <- b"], "");
    check_flow(&["a <-", "b <-", "c <- a b", "> <- c", "> <- a", ">named <- b c"], "");
    let job = job(&flow(&["a <-", "> <- a", ">x <- a", "> <- a"]), &[]);
    let names: Vec<&str> = job.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["sink-1", "x", "sink-3"]);
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    check_flow(&["lines <-", "> <- lnes"], "5:9 there is no source or step `lnes`; Did you mean `lines`?\n");
    check_flow(
        &["lines <-", "words <- lines", "> <- words other"],
        "9:18 there is no source or step `other`; There are: `lines`, `words`.\n",
    );
    check_flow(&["a <-", ">out <- a", "> <- out"], "9:9 `out` is a sink, and nothing comes out of a sink\n");
    check_flow(&["a <-", "> <- a a"], "5:14 `a` stands in `from` twice, which would double its rows\n");
}

#[test]
fn names_are_given_once() {
    check_flow(&["a <-", "a <- a", "> <- a"], "5:8 there already is a source `a`; Give each its own name.\n");
    check_flow(&["a <-", ">x <- a", ">x <- a"], "9:8 there already is a sink `x`; Give each its own name.\n");
    // A sink may have the name of a step.
    check_flow(&["a <-", ">a <- a"], "");
}

#[test]
fn names_are_checked() {
    check(
        "source = [{ type = 'stdin' }, { name = 'a b', type = 'stdin' }, { name = 'ok', type = 'stdin' }]\nsink = [{ type = 'console', from = 'ok', name = '' }]\n",
        "1:11 `name` is missing in `[[source]]`; Write `name = \"…\"`.
1:40 `a b` cannot be a name; Names are letters, digits, `-` and `_`, at most 100 of them.
2:49 `name` is empty
",
    );
    check(
        "source = [{ name = 'a', type = 'stdin' }]\nsink = [{ type = 'console' }, { type = 'console', from = [] }, { type = 'console', from = 5 }]\n",
        "2:9 `from` is missing in `[[sink]]`; Name the source or step that rows come from.
2:58 `from` is empty; Name the source or step that rows come from.
2:91 `from` must be a text or a list of texts, not a whole number
",
    );
}

#[test]
fn cycles_are_named() {
    let hint = "Rows flow one way, from sources to sinks.";
    check_flow(&["a <-", "b <- a b", "> <- b"], &format!("6:14 step `b` reads from itself; {hint}\n"));
    check_flow(
        &["a <-", "x <- a z", "y <- x", "z <- y", "> <- z"],
        &format!("6:14 the steps `x` → `y` → `z` → `x` form a cycle; {hint}\n"),
    );
    // Two cycles, and steps before, between and after them.
    check_flow(
        &["a <-", "b <- a", "c <- b d", "d <- c", "e <- d", "f <- e g", "g <- f", "> <- g"],
        &format!(
            "10:14 the steps `c` → `d` → `c` form a cycle; {hint}\n22:14 the steps `f` → `g` → `f` form a cycle; {hint}\n"
        ),
    );
}

#[test]
fn a_step_that_reads_what_it_sets_aside_is_told_what_to_write() {
    let step = |name: &str, from: &str, more: &str| {
        format!("[[step]]\nname = '{name}'\nfrom = {from}\nfilter = '1 / length(value) > 0'\n{more}\n")
    };
    let letters = "on-error = 'dead-letter'\ndead-letter = 'bad'";
    let around = "[[source]]\nname = 'in'\ntype = 'stdin'\n[[sink]]\nfrom = ['s', 'bad']\ntype = 'console'\n";
    let hint = "Rows flow one way, from sources to sinks. Read `bad` in a sink, or in steps whose rows do not come to `s`; rows that they \
                have put right join the others behind it, as in `from = [\"s\", …]`.";
    check(
        &format!("{around}{}", step("s", "['in', 'bad']", letters)),
        &format!("9:15 step `s` reads its own dead letters: `s` → `bad` → `s`; {hint}\n"),
    );
    // Through another step.
    let (repaired, reads) = (step("repaired", "'bad'", ""), step("s", "['in', 'repaired']", letters));
    check(
        &format!("{around}{repaired}{reads}"),
        &format!("14:15 step `s` reads its own dead letters: `s` → `bad` → `repaired` → `s`; {hint}\n"),
    );
}

#[test]
fn what_leads_nowhere_is_told() {
    check_flow(
        &["a <-", "b <-", "c <- a", "d <- c", "> <- a"],
        "4:1 nothing reads from source `b`; Name it in the `from` of a step or a sink, or remove the source.
11:1 nothing reads from step `d`; Name it in the `from` of a step or a sink, or remove the step.
",
    );
    // A misspelt name is told once, not also at the step that it was meant to be.
    check_flow(
        &["a <-", "counts <- a", "> <- count"],
        "9:9 there is no source or step `count`; Did you mean `counts`?\n",
    );
    check_flow(&["a <-", "b <- a"], "file the job has no sink: nothing comes out; Add a `[[sink]]` table.\n");
}

/// Checks a table `t` and a step `s` whose join stands on line 10, after a source `a`.
#[track_caller]
fn check_table(join: &str, sink: &str, expected: &str) {
    let text = format!(
        "source = [{{ name = 'a', type = 'stdin' }}]
[[table]]
name = 't'
path = '.'
format = 'csv'
schema = {{ value = 'utf8' }}
[[step]]
name = 's'
from = 'a'
{join}
[[sink]]
from = {sink}
type = 'console'
"
    );
    check(&text, expected);
}

#[test]
fn tables_stand_in_joins_only() {
    let join = "join = { with = 't', on = 'value' }";
    check_table(join, "'s'", "");
    check_table(
        join,
        "['s', 't']",
        "12:14 `t` is a table, and rows do not flow out of a table; Join a stream with it: `join = { with = \"…\", on = [\"…\"] }`.\n",
    );
    check_table(
        "union = true",
        "'s'",
        "2:1 nothing reads from table `t`; Name it in the `with` of a join, or remove the table.\n",
    );
    check_table(
        "join = { with = 'tt', on = 'value' }",
        "'s'",
        "10:17 there is no source or step `tt`; There are: `a`, `t`.\n",
    );
    check_table(
        "join = { with = 's', on = 'value' }",
        "['s', 'a']",
        "2:1 nothing reads from table `t`; Name it in the `with` of a join, or remove the table.\n10:17 step `s` reads from itself; Rows flow one way, from sources to sinks.\n",
    );
    // A stream may be joined with itself.
    check_table(
        "join = { with = 'a', on = 'value', type = 'semi' }",
        "'s'",
        "2:1 nothing reads from table `t`; Name it in the `with` of a join, or remove the table.\n",
    );
}
