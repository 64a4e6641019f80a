"""When and where: recipes, engine, tracking, schedule and the command line."""
