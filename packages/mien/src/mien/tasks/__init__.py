"""Durable tasks: records, state machine, store, events, scheduler, webhooks."""
