"""All that imports ray: sessions, nodes, actors, and the driver's side of each worker."""
