"""The task store on a SQL database."""
