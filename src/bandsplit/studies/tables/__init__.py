"""The paper's tables, published and ours."""
