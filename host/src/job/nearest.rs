//! The nearest right name to a wrong one.

/// The candidate that `word` was most likely meant to be, if any is near.
///
/// # Examples
///
/// ```
/// use tidemill::job::nearest::nearest;
///
/// assert_eq!(nearest("adress", ["address", "reconnect"]), Some("address"));
/// assert_eq!(nearest("colour", ["address", "reconnect"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let written = plain(word);
    // A third of the letters may be wrong, and one always may.
    let distance_max = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&written, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= distance_max && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What to write instead of `word`: the nearest candidate, or all of them.
///
/// `None` when there is nothing to choose from. `what` names them, as in "keys".
pub fn suggest<'a>(word: &str, what: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match nearest(word, candidates.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if candidates.is_empty() => None,
        None => Some(format!("{what}: {}", list(&candidates))),
    }
}

/// Names in backticks, with commas.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    /// More than these are not read by anyone.
    const SHOWN_MAX: usize = 48;
    let mut text =
        names.iter().take(SHOWN_MAX).map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN_MAX {
        text.push_str(&format!(" and {} more", names.len() - SHOWN_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(nearest(word, candidates.iter().copied()), expected);
    }

    #[test]
    fn the_nearest_name_is_found_unless_all_are_far() {
        let keys = ["batch-interval", "partitions", "name", "by", "memory"];
        check("batch_interval", &keys, Some("batch-interval"));
        check("batchinterval", &keys, Some("batch-interval"));
        check("PARTITIONS", &keys, Some("partitions"));
        check("nmae", &keys, Some("name"));
        check("bz", &keys, Some("by"));
        check("x", &keys, None);
        check("checkpoint", &keys, None);
        check("", &keys, None);
        check("name", &[], None);
    }
}
