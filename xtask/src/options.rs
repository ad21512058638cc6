//! Options among arguments that are otherwise a program's own.

use anyhow::{Context as _, Result};

/// Takes an option out of arguments, as `--name VALUE` or `--name=VALUE`: its values, and the other
/// arguments.
pub(crate) fn take(args: &[String], name: &str) -> Result<(Vec<String>, Vec<String>)> {
    let (mut values, mut rest) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.strip_prefix(name) {
            Some("") => {
                let value = args.next();
                values.push(
                    value
                        .with_context(|| format!("{name} needs a value"))?
                        .clone(),
                );
            }
            Some(value) if value.starts_with('=') => values.push(value[1..].to_owned()),
            _ => rest.push(arg.clone()),
        }
    }
    Ok((values, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_told_from_the_rest() {
        let args = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
        let given = args(&["--flips", "3", "--vm", "5.10,7", "--vm=6.1", "--vmx"]);
        let (values, rest) = take(&given, "--vm").unwrap();
        assert_eq!(values, ["5.10,7", "6.1"]);
        assert_eq!(rest, ["--flips", "3", "--vmx"]);
        assert!(take(&args(&["--vm"]), "--vm").is_err());
    }
}
