"""What is looked for where.

`presidio` is plain Presidio; `logs` and `prompts` are for people who must read the result.

Measured on loghub lines, plain Presidio gives 3 695 findings per 1 000 lines: dates, URLs, host addresses and numbers
that pass a checksum by chance.  The two profiles leave those entities out, want a context word for identifiers that are
plain numbers, and reject by the named rules in `rejections.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.detectors.pii.config import ProfileName

# True strings of their type, but not personal data where software talks: asked for by name only.
_NOT_PERSONAL = frozenset(
    {
        "CA_POSTAL_CODE",
        "DATE_TIME",
        "DE_HANDELSREGISTER",
        "DE_KFZ",
        "DE_PLZ",
        "MAC_ADDRESS",
        "SE_ORGANISATIONSNUMMER",
        "UK_POSTCODE",
        "UK_VEHICLE_REGISTRATION",
        "URL",
        "UUID",
    }
)
# One in ten numbers passes a checksum, and a bare digit run passes a pattern: these need their word beside them.
NEEDS_CONTEXT = frozenset(
    {
        "ABA_ROUTING_NUMBER",
        "DE_BSNR",
        "DE_FUEHRERSCHEIN",
        "DE_HEALTH_INSURANCE",
        "DE_ID_CARD",
        "DE_LANR",
        "DE_PASSPORT",
        "DE_SOCIAL_SECURITY",
        "DE_TAX_ID",
        "DE_TAX_NUMBER",
        "DE_VAT_ID",
        "ES_PASSPORT",
        "FI_PERSONAL_IDENTITY_CODE",
        "IT_DRIVER_LICENSE",
        "IT_IDENTITY_CARD",
        "IT_PASSPORT",
        "IT_VAT_CODE",
        "MEDICAL_LICENSE",
        "PL_PESEL",
        "SE_PERSONNUMMER",
        "UK_DRIVING_LICENCE",
        "UK_NHS",
        "UK_NINO",
        "UK_PASSPORT",
        "US_BANK_NUMBER",
        "US_CLAIM_NUMBER",
        "US_DRIVER_LICENSE",
        "US_HEALTH_INSURANCE_MEMBER_ID",
        "US_MBI",
        "US_NPI",
        "US_PASSPORT",
        "US_PRESCRIPTION_NUMBER",
        "US_PRIOR_AUTHORIZATION_NUMBER",
        "US_PROVIDER_TAX_ID",
        "US_REFERRAL_NUMBER",
    }
)


@dataclass(frozen=True, slots=True)
class Profile:
    """`hidden` entities are not looked for unless asked for by name; `is_strict` turns the rejections on."""

    name: ProfileName
    threshold: float
    hidden: frozenset[str] = frozenset()
    is_strict: bool = True


PROFILES: dict[ProfileName, Profile] = {
    "logs": Profile("logs", 0.5, _NOT_PERSONAL | {"IP_ADDRESS"}),
    "prompts": Profile("prompts", 0.4, _NOT_PERSONAL),
    "presidio": Profile("presidio", 0.0, is_strict=False),
}
