package policy

// The types of bpf/policy.h under the names this package uses.
type (
	compiledRule = kernelRule
	ruleSet      = kernelRuleSet
	ruleRange    = kernelRuleRange
	rulePrefix   = kernelRulePrefix
	settings     = kernelPolicy
	// Pair is two feeds that deliver the same packets: the first copy came from First.
	// The pair 0, 0 is all that came when too many were known.
	Pair      = kernelFeedPair
	dimension = kernelDimension
	side      = kernelSide
	// RuleState is what a rule has met on one CPU: packets, bytes, and how many it kept.
	RuleState = kernelRuleState
)

// Limits of a policy.
const (
	// MaxRules is the number of rules a policy may have.
	MaxRules = kernelPolicyLimitMAX_RULES
	// MaxFilters is the number of different filters its rules may have.
	MaxFilters = kernelPolicyLimitMAX_FILTERS
)

const (
	maxRanges   = int(kernelPolicyLimitMAX_RANGES)
	maxPrefixes = int(kernelPolicyLimitMAX_PREFIXES)
	ruleWords   = int(kernelPolicyLimitRULE_WORDS)

	dimensionEncap     = kernelDimensionDIMENSION_ENCAP
	dimensionSession   = kernelDimensionDIMENSION_SESSION
	dimensionKey       = kernelDimensionDIMENSION_KEY
	dimensionVNI       = kernelDimensionDIMENSION_VNI
	dimensionVLAN      = kernelDimensionDIMENSION_VLAN
	dimensionDirection = kernelDimensionDIMENSION_DIRECTION
	dimensionCount     = kernelDimensionDIMENSION_COUNT

	digestBytes     = int(kernelDuplicateLimitDIGEST_BYTES)
	digestWords     = int(kernelDuplicateLimitDIGEST_WORDS)
	digestPasses    = int(kernelDuplicateLimitDIGEST_PASSES)
	sightingBuckets = int(kernelDuplicateLimitSIGHTING_BUCKETS)
	sightingWays    = int(kernelDuplicateLimitSIGHTING_WAYS)
	maxPairs        = int(kernelDuplicateLimitMAX_PAIRS)

	sideExporter  = kernelSideSIDE_EXPORTER
	sideCollector = kernelSideSIDE_COLLECTOR
	sideCount     = kernelSideSIDE_COUNT
)
