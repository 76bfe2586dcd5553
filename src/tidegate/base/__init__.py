"""Words every room uses: errors, ids, instants, canonical bytes. Imports nothing of ours."""
