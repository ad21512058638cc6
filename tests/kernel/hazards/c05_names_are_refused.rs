//! C5: the names that generations have are refused.

use anyhow::{Result, ensure};
use synflip_bed::Fixture;

use crate::{black_box::Operate as _, findings::Findings, verdict::hazard};

#[test]
fn c05_names_that_generations_have() -> Result<()> {
    hazard("C5", || {
        let fixture = Fixture::new()?;
        let mut found = Findings::default();
        let mut servers = Vec::new();
        for name in [
            "v1.2.3",
            "57151814536e3478dbfe6868ff1623f3b6ba6de8",
            "web@v1",
        ] {
            let server = fixture.net.plain(&fixture.spec(1, 1))?;
            let adopted = fixture.agent.adopt(server.pid(), name, &[])?;
            if adopted.code != 0 {
                ensure!(adopted.stderr.contains(name), "{adopted:?}");
                found.unless(false, format!("{name} is refused"));
            }
            servers.push(server);
        }
        // No name, ever: who tries one has to be told what is.
        let refused = fixture.agent.adopt(1, "a/b", &[])?;
        ensure!(refused.code != 0, "{refused:?}");
        let help = fixture.agent.tried(&["adopt", "--help"])?.stdout;
        for (what, text) in [("the refusal", refused.stderr), ("--help", help)] {
            let rule = text.contains("64");
            found.unless(rule, format!("{what} does not say what a name is"));
        }
        found.verdict()
    })
}
