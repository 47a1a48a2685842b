//! The reference of the job file is true: every block of it is, or is a part of, a job file without mistakes.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use crate::job::file::parse_job;

/// The `toml` blocks of the reference.
fn blocks() -> Vec<&'static str> {
    let text = include_str!("../../../../docs/job-file.md");
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// The texts at `key` of each table of a section.
fn texts(table: &DeTable<'_>, section: &str, key: &str) -> Vec<String> {
    let values = |value: &DeValue<'_>| match value {
        DeValue::String(text) => vec![text.to_string()],
        DeValue::Array(items) => items.iter().filter_map(|item| item.get_ref().as_str().map(String::from)).collect(),
        _ => Vec::new(),
    };
    let tables =
        table.iter().find(|(name, _)| name.get_ref() == section).and_then(|(_, value)| value.get_ref().as_array());
    let tables = tables.into_iter().flat_map(|tables| tables.iter());
    tables.filter_map(|table| table.get_ref().get(key)).flat_map(|value| values(value.get_ref())).collect()
}

/// The block with what it lacks to be a job: a source for each name it reads from, a sink for each that nothing reads.
fn completed(block: &str) -> String {
    let parsed = DeTable::parse(block).expect("TOML");
    let table = parsed.get_ref();
    let of = |section: &str, key: &str| texts(table, section, key).into_iter().collect::<BTreeSet<_>>();
    let mut made = &of("source", "name") | &of("step", "name");
    made.extend(&of("source", "dead-letter") | &of("step", "dead-letter"));
    // Streams of late rows are made by the steps that name them.
    made.extend(block.split("late = \"").skip(1).filter_map(|rest| rest.split('"').next()).map(String::from));
    // A join names one a side.
    let of_sides = block.split("late = {").skip(1).filter_map(|rest| rest.split('}').next());
    made.extend(of_sides.flat_map(|names| names.split('"').skip(1).step_by(2)).map(String::from));
    let read = &of("step", "from") | &of("sink", "from");
    let source = |name: &String| format!("\n[[source]]\nname = \"{name}\"\ntype = \"stdin\"\n");
    let mut text = block.to_owned();
    text.extend((&read - &made).iter().map(source));
    if made.is_empty() && read.is_empty() {
        text.push_str(&source(&"lines".into()));
        return text + "\n[[sink]]\nfrom = \"lines\"\ntype = \"console\"\n";
    }
    let sink = |name: &String| format!("\n[[sink]]\nfrom = \"{name}\"\ntype = \"console\"\n");
    text.extend((&made - &read).iter().map(sink));
    text
}

#[test]
fn every_example_of_the_reference_is_right() {
    let blocks = blocks();
    assert!(blocks.len() > 15, "{} blocks", blocks.len());
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    std::fs::create_dir(folder.path().join("plugins")).expect("a folder in it");
    for plugin in blocks.iter().flat_map(|block| block.split('"')).filter(|text| text.ends_with(".wasm")) {
        std::fs::write(folder.path().join(plugin), b"").expect("a file in it");
    }
    for block in blocks {
        if let Err(error) = parse_job(completed(block), "job.toml", folder.path(), &[]) {
            panic!("{}", error.render(false));
        }
    }
}

#[test]
fn every_key_of_the_reference_is_known_and_every_known_key_is_in_it() {
    let text = include_str!("../../../../docs/job-file.md");
    // What an unknown key is told shows what is known where it stands.
    let around = "[[source]]\nname = 'in'\ntype = 'stdin'\n[[sink]]\nfrom = 'in'\ntype = 'console'\n";
    for (section, n_keys) in [("[job]", 10), ("[limits]", 23), ("[limits.job]", 3), ("[state]", 3), ("[spill]", 4)] {
        let shown = super::mistakes(&format!("{section}\nqqqqqqqqqqqqqqqqqqqqqqqqq = 1\n{around}"), &[]);
        let known: Vec<&str> =
            shown.split("Other keys here: ").nth(1).expect("known keys").split('`').skip(1).step_by(2).collect();
        assert!(known.len() >= n_keys, "{shown}");
        for key in known {
            assert!(text.contains(&format!("| `{key}` |")), "`{key}` of {section} is not in the reference");
        }
    }
}
