/// A table of the source, in the schema public. Its key is `id`, from 1 on.
struct SourceTable: Sendable {
    let name: String
    /// SQL that makes it, in the first schema of the search path.
    let definition: String
}
