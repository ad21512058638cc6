//! The tests of one target, read from what it printed.

use serde::Serialize;

/// One test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) status: Status,
    /// What a skipped test says that it misses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<String>,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    Failed,
    Skipped,
    /// It had not ended when its program did.
    Unfinished,
}

/// Reads the output of a test program that runs one test after the other and hides nothing.
///
/// What a test prints stands between `test NAME ... ` and its verdict.
pub(crate) fn cases(lines: &[String]) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in lines {
        let mut said = line.as_str();
        if let Some((name, rest)) = line
            .strip_prefix("test ")
            .and_then(|l| l.split_once(" ... "))
        {
            cases.push(Case {
                name: name.trim_end_matches(" - should panic").to_owned(),
                status: Status::Unfinished,
                skipped: None,
            });
            said = rest;
        }
        let Some(case) = cases
            .last_mut()
            .filter(|case| case.status == Status::Unfinished)
        else {
            continue;
        };
        if let Some(why) = said.strip_prefix("skipped: ") {
            case.skipped = Some(why.to_owned());
            continue;
        }
        case.status = match said {
            "ok" if case.skipped.is_some() => Status::Skipped,
            "ok" => Status::Ok,
            "FAILED" => Status::Failed,
            _ if said == "ignored" || said.starts_with("ignored, ") => {
                case.skipped = Some(said.to_owned());
                Status::Skipped
            }
            _ => continue,
        };
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_found_behind_what_tests_print() {
        let lines = "
running 6 tests
test plain ... ok
test talks ... SYNFLIP_SEED=7
V4 at 1ms: 0 lost
ok
test skips ... skipped: needs netem (declared for this kernel)
ok
test ignored_one ... ignored, takes an hour
test fails ... thread 'fails' panicked
skipped: not really
FAILED
failures:
    fails
test hangs ... SYNFLIP_SEED=8";
        let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        let found: Vec<_> = cases(&lines)
            .into_iter()
            .map(|case| (case.name, case.status, case.skipped))
            .collect();
        let case = |name: &str, status, skipped: Option<&str>| {
            (name.to_owned(), status, skipped.map(str::to_owned))
        };
        assert_eq!(
            found,
            [
                case("plain", Status::Ok, None),
                case("talks", Status::Ok, None),
                case(
                    "skips",
                    Status::Skipped,
                    Some("needs netem (declared for this kernel)")
                ),
                case(
                    "ignored_one",
                    Status::Skipped,
                    Some("ignored, takes an hour")
                ),
                case("fails", Status::Failed, Some("not really")),
                case("hangs", Status::Unfinished, None),
            ]
        );
    }
}
