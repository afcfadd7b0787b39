/// The SQL of a hint, which is what an operator pastes: all from the first statement on.
func statements(in hint: String?) -> String {
    guard let hint else { return "" }
    let starts = ["ALTER ", "CREATE ", "GRANT ", "DELETE ", "DROP "].compactMap {
        hint.range(of: $0)?.lowerBound
    }
    return starts.min().map { String(hint[$0...]) } ?? ""
}

extension String {
    fileprivate func range(of text: String) -> Range<String.Index>? { ranges(of: text).first }
}
