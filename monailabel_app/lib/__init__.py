"""What the MONAI Label app adds to radclear: wiring, the request guard, stores, audit."""
