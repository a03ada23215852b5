"""The gallery's API, which the page uses: pictures with their recipes, and drawings that go on without their client."""
