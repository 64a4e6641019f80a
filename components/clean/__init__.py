"""Which documents are worth learning from: rules over their stored statistics, licences, opt-outs and caps."""
