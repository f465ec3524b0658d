"""From the records of finished runs to ``runs.csv`` and the tables; imports pandas, never torch."""
