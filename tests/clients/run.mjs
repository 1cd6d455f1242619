// Runs the checks of one suite, a line for each.
const { checks } = await import(process.argv[2]);
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`PASS ${name}`);
  } catch (error) {
    console.log(`FAIL ${name}: ${String(error).replaceAll("\n", " ").slice(0, 300)}`);
  }
}
