"""What taking part is worth to one site: the global model, adapted at the site, beside one trained there alone."""
