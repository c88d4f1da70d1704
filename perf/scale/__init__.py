"""What it takes to tokenise very many hours of audio: measured rates, a plan, a simulation, a run on this machine."""
