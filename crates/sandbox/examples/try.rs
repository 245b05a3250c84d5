use lopper_sandbox::*;
fn main() -> anyhow::Result<()> {
    child_main();
    let mut p = Policy::default();
    p.limits.wall = std::time::Duration::from_secs(5);
    p.limits.memory = 512 << 20;
    p.python = std::env::var_os("PY").map(Into::into);
    p.site_packages = std::env::var_os("SITE").is_some();
    let s = Sandbox::new(p)?;
    for l in s.describe() { println!("{l}"); }
    for f in std::env::args().skip(1) {
        println!("{:#?}", s.run(&Program::new(f, "pass").value("1+1"))?);
    }
    Ok(())
}
