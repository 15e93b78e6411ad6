package policy

import "github.com/unspan/unspan/bpf"

// The types of bpf/policy.h and bpf/duplicate.h under the names this package uses.
type (
	compiledRule = bpf.DecapRule
	ruleSet      = bpf.DecapRuleSet
	ruleRange    = bpf.DecapRuleRange
	rulePrefix   = bpf.DecapRulePrefix
	settings     = bpf.DecapPolicy
	repeats      = bpf.DecapDuplicateSettings
	// Pair is two feeds that deliver the same packets: the first copy came from First.
	// The pair 0, 0 is all that came when too many were known.
	Pair      = bpf.DecapFeedPair
	dimension = bpf.DecapDimension
	side      = bpf.DecapSide
	// RuleState is what a rule has met on one CPU: packets, bytes, and how many it kept.
	RuleState = bpf.DecapRuleState
)

// Limits of a policy.
const (
	// MaxRules is the number of rules a policy may have.
	MaxRules = bpf.DecapPolicyLimitMAX_RULES
	// MaxFilters is the number of different filters its rules may have.
	MaxFilters = bpf.DecapPolicyLimitMAX_FILTERS
)

const (
	maxRanges   = int(bpf.DecapPolicyLimitMAX_RANGES)
	maxPrefixes = int(bpf.DecapPolicyLimitMAX_PREFIXES)
	ruleWords   = int(bpf.DecapPolicyLimitRULE_WORDS)

	dimensionEncap     = bpf.DecapDimensionDIMENSION_ENCAP
	dimensionSession   = bpf.DecapDimensionDIMENSION_SESSION
	dimensionKey       = bpf.DecapDimensionDIMENSION_KEY
	dimensionVNI       = bpf.DecapDimensionDIMENSION_VNI
	dimensionVLAN      = bpf.DecapDimensionDIMENSION_VLAN
	dimensionDirection = bpf.DecapDimensionDIMENSION_DIRECTION
	dimensionCount     = bpf.DecapDimensionDIMENSION_COUNT

	digestBytes     = int(bpf.DecapDuplicateLimitDIGEST_BYTES)
	digestWords     = int(bpf.DecapDuplicateLimitDIGEST_WORDS)
	digestPasses    = int(bpf.DecapDuplicateLimitDIGEST_PASSES)
	sightingBuckets = int(bpf.DecapDuplicateLimitSIGHTING_BUCKETS)
	sightingWays    = int(bpf.DecapDuplicateLimitSIGHTING_WAYS)
	maxPairs        = int(bpf.DecapDuplicateLimitMAX_PAIRS)

	sideExporter  = bpf.DecapSideSIDE_EXPORTER
	sideCollector = bpf.DecapSideSIDE_COLLECTOR
	sideCount     = bpf.DecapSideSIDE_COUNT
)
