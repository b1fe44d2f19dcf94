"""EDM diffusion: schedule, preconditioning, loss, sampler. Knows neither network nor physics."""
