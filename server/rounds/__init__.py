"""One run and its rounds: asked for, collected, screened, aggregated."""
